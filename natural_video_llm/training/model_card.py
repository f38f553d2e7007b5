"""The model card of a run: what it was trained on, on whose word, what was found, how to load it, what it cannot do.

After Mitchell et al. 2019, in the form of the Hugging Face Hub. It holds counts and figures, nobody's name and nobody's
words.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from transformers.utils import cached_file

from natural_video_llm import assets
from natural_video_llm.disk import write_whole
from natural_video_llm.models.fusion_transformer import FusionConfig, read_config
from natural_video_llm.run_folder import RUN_FILE
from natural_video_llm.sessions.events import VideoSegmentStart
from natural_video_llm.sessions.folder import Session

CARD_FILE = "README.md"
_KNOWN_BASES = {assets.DEFAULT_LLM: ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")}
_LICENCE = re.compile(r"---\n(?:(?!---).*\n)*?license: *[\"']?([A-Za-z0-9.+-]+)[\"']? *\n")
_GENERATED = "generated from a public-domain portrait; nobody was filmed"
_IMPORTED = re.compile(
    r"imported from .*; (?P<where>consent lies with the (?:source of the clip|makers of the (?:data set|corpus)))"
)
_ASKED = re.compile(
    r"This will be recorded:\n(?P<what>(?:  - (?:video|text): [a-z ,]+\n)+)into .*\n"
    r"(?P<where>It stays on this machine; nothing is sent anywhere\.) .*\nAnswered .*"
)


def data_facts(sessions: Sequence[Session]) -> dict[str, Any]:
    """Counts of what a run is trained on, and what was agreed to: [text, sessions] for each."""
    people = {s.start.person or s.start.session_id for s in sessions}
    consents = Counter(_agreed(s.start.consent) for s in sessions)
    return {
        "people": len(people),
        "sessions": len(sessions),
        "minutes": round(sum(map(_video_s, sessions)) / 60, 1),
        "utterances": sum(len(s.texts) for s in sessions),
        "words": sum(len(text.text.split()) for s in sessions for text in s.texts),
        "consents": [list(pair) for pair in sorted(consents.items())],
    }


def _video_s(session: Session) -> float:
    starts = {e.file: e.t for e in session.events if isinstance(e, VideoSegmentStart)}
    return sum(end.t - starts.get(end.file, end.t) for end in session.finished_segments)


def _agreed(consent: str) -> str:
    """What can be told of a consent without telling of a person: the house's own sentences as they are; of any other
    text, which may name people, its fingerprint alone."""
    if consent == _GENERATED:
        return consent
    if imported := _IMPORTED.fullmatch(consent):
        return f"imported; {imported['where']}"
    if asked := _ASKED.fullmatch(consent):
        what = " ".join(line.removeprefix("  - ") + "." for line in asked["what"].splitlines())
        return f"Asked at the terminal and answered yes: {what} {asked['where']}"
    return f"a text of their own, not printed because it may hold names (SHA-256 {assets.text_sha256(consent)[:12]})"


def write_card(run: Path, evidence: dict[str, Any] | None) -> None:
    """Write the card of a trained run (run.json and config.json lie in it), with what an evaluation found of it."""
    record = json.loads((run / RUN_FILE).read_text(encoding="utf-8"))
    write_whole(run / CARD_FILE, render_card(read_config(run), record, evidence))


def render_card(
    config: FusionConfig, record: dict[str, Any], evidence: dict[str, Any] | None, merged: bool = False
) -> str:
    """The card's text.

    Args:
        record: of run.json; its `data` is what `data_facts` gave.
        evidence: what `nvllm eval` found; None where it has not been run.
        merged: the card is for an export whose base LLM has the LoRA merged in.
    """
    name, licence = base_name(config.base_llm), base_licence(config.base_llm)
    header = ModelCardData(
        base_model=name,
        license=licence,
        library_name="natural-video-llm",
        pipeline_tag="text-generation",
        tags=["natural-video-llm", "face", "gated-cross-attention", *(["lora"] if config.lora_rank else [])],
    )
    data = record.get("data")
    parts = [
        f"---\n{header.to_yaml()}\n---",
        f"# A face-reading adapter for {name}",
        "It lets the language model see the face in front of it, aligned in seconds with the text. It was trained "
        "without any label: what a face means, it has found out from what was said next.",
        "## Trained on",
        _data_text(data),
        "## Made of",
        _parts_text(config, record["options"], name, licence),
        "## Evidence",
        _evidence_text(evidence),
        "## How to load it",
        _loading_text(merged),
        "## Limits",
        _limits_text(data, merged),
    ]
    return "\n\n".join(parts) + "\n"


def base_name(base_llm: str) -> str:
    """What the base LLM is called elsewhere: its Hub id, or of a path the last part alone."""
    if base_llm in _KNOWN_BASES:
        return _KNOWN_BASES[base_llm][0]
    is_path = Path(base_llm).exists() or Path(base_llm).is_absolute() or base_llm.count("/") > 1
    return Path(base_llm).name if is_path else base_llm


def _encoder_name(encoder: str) -> str:
    kind, _, weights = encoder.partition(":")
    return f"{kind} ({base_name(weights)})" if weights else kind


def base_licence(base_llm: str) -> str:
    """The licence that the base LLM's own card names, else 'unknown'."""
    if base_llm in _KNOWN_BASES:
        return _KNOWN_BASES[base_llm][1]
    try:
        card = cached_file(base_llm, CARD_FILE, _raise_exceptions_for_missing_entries=False, local_files_only=True)
        found = _LICENCE.match(Path(card).read_text(encoding="utf-8")) if card else None
    except (OSError, ValueError):
        found = None
    return found[1] if found else "unknown"


def _data_text(data: dict[str, Any] | None) -> str:
    if data is None:
        return "The run does not say."
    counts = (
        f"{data['people']} people in {data['sessions']} sessions: {data['minutes']} minutes of video, "
        f"{data['utterances']} utterances, {data['words']} words."
    )
    consents = _table(("sessions", "consent"), [(str(count), text) for text, count in data["consents"]])
    return f"{counts}\n\nWhat the filmed people agreed to:\n\n{consents}"


def _parts_text(config: FusionConfig, options: dict[str, Any], name: str, licence: str) -> str:
    tuned = f"LoRA of rank {config.lora_rank} on its upper layers" if config.lora_rank else "frozen"
    layers = ", ".join(map(str, config.fusion_layers))
    rows = {
        "base LLM": f"{name}, {tuned}; licence: {licence}; weights' SHA-256 `{config.base_llm_sha256}`",
        "encoder": f"{_encoder_name(config.encoder)}; weights' SHA-256 `{config.encoder_sha256}`",
        "temporal encoder": f"{config.temporal_encoder}, {config.reach_s:g} s a layer",
        "fusion": f"before the layers {layers}; a token sees {config.window_s:g} s back",
        "training": f"{options['match_steps']} steps of matching, {options['steps']} through the LLM, batches of "
        f"{options['batch_size']}, seed {options['seed']}",
    }
    return _table(("part", "what"), list(rows.items()))


def _evidence_text(evidence: dict[str, Any] | None) -> str:
    if evidence is None:
        return "None yet: `nvllm eval` has not been run. Do not believe that the face matters before it has."
    data = evidence["data"]
    verdict = evidence.get("verdict")  # older evaluations have none
    parts = [f"The face: **{verdict['face']}**. {verdict['words']}"] if verdict else []
    parts += [
        f"On {data['utterances']} utterances of {data['people']} people that were held out; 95 % intervals over "
        f"{data['interval_over']}.",
        _table(
            ("in place of the right face", "bits a word that the right one saves"),
            [
                (name, _interval(figures["true_saves_per_word"], "+.3f"))
                for name, figures in evidence["conditions"].items()
                if name != "true"
            ],
        ),
    ]
    if choices := evidence.get("choices"):
        right = choices["true"]
        parts.append(
            f"Among {choices['candidates']} candidate replies the face points to the right one in a share of "
            f"{_interval(right['right'], '.2f')}: {_interval(right['choice_bits'], '.2f')} choice bits."
        )
    if reaction := evidence.get("reaction"):
        parts.append("The face ahead, squared error; below 1 the model is the better one:")
        known = [(ahead, figures) for ahead, figures in reaction.items() if figures]
        rows = [(a, n, _interval(f[n], ".3f")) for a, f in known for n in f if n.startswith("ratio")]
        parts.append(_table(("ahead", "what", "figure"), rows))
    return "\n\n".join(parts)


def _loading_text(merged: bool) -> str:
    folder = "THIS_FOLDER/adapter" if merged else "THIS_FOLDER"
    beside = (
        '`AutoModelForCausalLM.from_pretrained("THIS_FOLDER")` gives the language model by itself, which sees no face.'
        if merged
        else "The base LLM is named by id and hash and is not part of this folder."
    )
    return (
        "```python\nfrom pathlib import Path\n\nfrom natural_video_llm.checkpoint import load_run\n\n"
        f'model, tokenizer = load_run(Path("{folder}"))\n```\n\n`nvllm chat {folder}` talks to it. {beside}'
    )


def _limits_text(data: dict[str, Any] | None, merged: bool) -> str:
    generated = data is not None and [text for text, _ in data["consents"]] == [_GENERATED]
    lines = [
        "It has learned what these people's faces did around these words, no more. On other people, cameras, languages "
        "and occasions it has to be measured again.",
        "It names no emotion and must not be used as if it did, nor to judge people.",
        "It inherits what the base LLM gets wrong.",
    ]
    if generated:
        lines.insert(0, "Trained on generated faces alone.")
    if merged:
        lines.append("Where LoRA was trained, the language model by itself is not the base LLM: LoRA is merged in.")
    return "\n".join(f"- {line}" for line in lines)


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _interval(figures: Sequence[float | None], style: str) -> str:
    value, low, high = ("?" if x is None else format(x, style) for x in figures)
    return f"{value} [{low}, {high}]"
