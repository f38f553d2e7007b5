"""`aligned_data.jsonl`: one utterance a line, each token with its time and the latents that it may see."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from natural_video_llm.disk import write_whole
from natural_video_llm.errors import UserError


class AlignedUtterance(BaseModel):
    """An utterance as tokens in time.

    Args:
        tokenizer, tokenizer_sha256: which tokenizer cut it.
        token_ids, token_spans: the tokens and their character ranges [start, end) in `text`.
        token_t_start, token_t_end: seconds since session start; `token_t_end` never falls.
        encoder, latents: the range [first, last) of that encoder's latents of this session, counted over all
            its segments, that lie at most `window_s` before the first token's start and not after the last
            token's end.
    """

    model_config = ConfigDict(extra="allow")

    speaker: str
    text: str
    timing: str
    t_start: float
    t_end: float
    tokenizer: str
    tokenizer_sha256: str
    token_ids: list[int]
    token_spans: list[tuple[int, int]]
    token_t_start: list[float]
    token_t_end: list[float]
    encoder: str
    latents: tuple[int, int]
    window_s: float


def write_aligned(path: Path, utterances: list[AlignedUtterance]) -> None:
    """Write the whole file beside its place and rename it.

    Raises:
        UserError: the disk is full or the folder cannot be written; nothing is left of it then.
    """
    write_whole(path, "".join(u.model_dump_json() + "\n" for u in utterances))


def read_aligned(path: Path) -> list[AlignedUtterance]:
    try:
        # As bytes: text would also be cut at the line separators that a person may have typed.
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"{path} cannot be read; run: nvllm align {path.parent}") from error
    utterances = []
    for number, line in enumerate(lines, start=1):
        try:
            utterances.append(AlignedUtterance.model_validate_json(line))
        except ValidationError as error:
            what = error.errors()[0]["msg"].lower()
            raise UserError(f"{path}: line {number} is damaged ({what}); run nvllm align again") from error
    return utterances
