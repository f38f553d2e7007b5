"""`nvllm train --config FILE`: a recipe in TOML, one option a line, as defaults for the command line."""

import tomllib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from natural_video_llm.errors import UserError
from natural_video_llm.training.options import TrainOptions

_FLAG = "--config"
# Where to read from belongs to the command line, and a recipe does not name another one.
_NOT_IN_A_FILE = ("sessions", "config")


def with_config(arguments: Sequence[str]) -> list[str]:
    """The arguments of `nvllm train` with those that its --config file stands for put before them, so that what was
    given on the command line has the last word.

    Raises:
        UserError: the file cannot be read, or holds an unknown key or a value of the wrong kind.
    """
    path = _config_of(arguments)
    if path is None:
        return list(arguments)
    return [*arguments_of(path), *arguments]


def _config_of(arguments: Sequence[str]) -> Path | None:
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument == _FLAG and following:
            return Path(following)
        if argument.startswith(f"{_FLAG}="):
            return Path(argument.removeprefix(f"{_FLAG}="))
    return None


def arguments_of(path: Path) -> list[str]:
    """The arguments of `nvllm train` that a recipe stands for.

    Raises:
        UserError: as `with_config`.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path} cannot be read as TOML ({error})") from error
    kinds = get_type_hints(TrainOptions)
    known = [f.name for f in fields(TrainOptions) if f.name not in _NOT_IN_A_FILE]
    arguments: list[str] = []
    for key, value in values.items():
        if key not in known:
            raise UserError(f"{path}: {key} is no option of nvllm train; known are {', '.join(known)}")
        if not _fits(value, kinds[key]):
            raise UserError(f"{path}: {key} = {value!r} is not of its kind ({_told(kinds[key])})")
        flag = f"--{key.replace('_', '-')}"
        if isinstance(value, bool):
            arguments.append(flag if value else f"--no-{flag.removeprefix('--')}")
        else:
            arguments += [flag, *(str(item) for item in (value if isinstance(value, list) else [value]))]
    return arguments


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(value, list):
        inner = get_args(kind)
        return get_origin(kind) is tuple and all(_fits(item, inner[0]) for item in value)
    choices = [choice for choice in get_args(kind) if isinstance(choice, str)]
    if choices:
        return value in choices
    allowed = {bool: (bool,), int: (int,), float: (int, float)}.get(kind, (str,))
    return isinstance(value, allowed) and (kind is bool or not isinstance(value, bool))


def _told(kind: Any) -> str:
    choices = get_args(kind)
    if choices and all(isinstance(choice, str) for choice in choices):
        return "one of " + ", ".join(choices)
    return {bool: "true or false", int: "a whole number", float: "a number"}.get(kind, "text")
