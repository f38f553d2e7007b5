"""What an encoder is called: all that its latents depend on, in one word."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from natural_video_llm.errors import UserError


@dataclass(frozen=True)
class EncoderSpec:
    """`kind:weights,option=value,…` taken apart.

    Args:
        kind: the family, such as face-geometry.
        weights: a file, a folder or a Hub id; empty for the kind's default.
        options: every option of the kind, those left out with their defaults.
        defaults: the defaults alone.
    """

    kind: str
    weights: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, name: str, kinds: Mapping[str, Mapping[str, str]]) -> "EncoderSpec":
        """`kinds` holds the options of each kind with their defaults.

        Raises:
            UserError: the kind or an option is unknown.
        """
        kind, _, rest = name.partition(":")
        given: dict[str, str] = {}
        while found := re.fullmatch(r"(.*),([a-z_]+)=([^,=]*)", rest if rest else kind):
            before, option, value = found.groups()
            given[option] = value
            kind, rest = (kind, before) if rest else (before, "")
        if kind not in kinds:
            raise UserError(f"unknown encoder {kind!r} in {name!r}: choose one of {', '.join(kinds)}")
        unknown = sorted(given.keys() - kinds[kind].keys())
        if unknown:
            known = ", ".join(kinds[kind]) or "none"
            raise UserError(f"encoder {name!r}: unknown option {unknown[0]!r}; {kind} has these: {known}")
        weights = str(Path(rest).resolve()) if rest and Path(rest).exists() else rest
        return cls(kind, weights, {**kinds[kind], **given}, kinds[kind])

    def number(self, option: str) -> float:
        """An option's value as a positive number.

        Raises:
            UserError: it is none.
        """
        try:
            value = float(self.options[option])
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            raise UserError(f"encoder {self}: {option} must be a positive number, not {self.options[option]!r}")
        return value

    @property
    def whole_frame(self) -> bool:
        """Whether the option `crop` asks for the whole picture in the face's place.

        Raises:
            UserError: it is neither `face` nor `none`.
        """
        if self.options["crop"] not in ("face", "none"):
            raise UserError(f"encoder {self}: crop must be face or none, not {self.options['crop']!r}")
        return self.options["crop"] == "none"

    def __str__(self) -> str:
        """The one canonical form: defaults left out, options in order."""
        changed = [f",{key}={value}" for key, value in sorted(self.options.items()) if value != self.defaults[key]]
        return "".join([self.kind, f":{self.weights}" if self.weights else "", *changed])
