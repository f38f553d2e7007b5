"""The options of `nvllm capture …`, apart from the code that needs OpenCV, so that --help answers at once."""

from dataclasses import dataclass
from pathlib import Path

from natural_video_llm.errors import UserError
from natural_video_llm.sessions.events import MODEL_SPEAKER


@dataclass(frozen=True, kw_only=True)
class FilmingOptions:
    """How somebody is filmed.

    Args:
        width: of the picture in pixels, asked of the camera; files and addresses have their own size and rate.
        height: as width.
        rate_hz: frames a second, asked of the camera.
        segment_s: length of one video file in seconds; a finished one can be extracted while the next is recorded.
        person: the filmed person's name across sessions, where there are several of one person.
        yes: a text file with the consent that was given elsewhere, in place of the question.
    """

    width: int = 640
    height: int = 480
    rate_hz: float = 30.0
    segment_s: float = 10.0
    person: str | None = None
    yes: Path | None = None

    def check(self) -> None:
        """Raise UserError for what cannot be or does not go together."""
        if min(self.width, self.height) < 2 or self.rate_hz <= 0 or self.segment_s <= 0:
            raise UserError("--width and --height must be at least 2, --rate-hz and --segment-s more than 0")


@dataclass(frozen=True, kw_only=True)
class VideoOptions(FilmingOptions):
    """What to record and how.

    Args:
        source: number or name of a camera, a file, or an RTSP or HTTP address.
        speaker: who is filmed; "speaker" in a new session where left out.
        preview: show the picture in a window, where q stops (needs the extra `desktop`).
    """

    source: str = "0"
    speaker: str | None = None
    preview: bool = False


@dataclass(frozen=True, kw_only=True)
class BothOptions(FilmingOptions):
    """Who types, who answers, and what films.

    Args:
        speakers: names of those who type in turn; the first is filmed.
        partner: who answers a single speaker: llm for the base LLM, or a run folder.
        video_source: number or name of a camera, a file, or an RTSP or HTTP address.
        temperature: of the partner; 0 always takes the likeliest word.
        seed: of the partner's sampling.
    """

    speakers: tuple[str, ...] = ()
    partner: str | None = None
    video_source: str = "0"
    temperature: float = 0.7
    seed: int = 0

    def check(self) -> None:
        super().check()
        if self.partner is not None and len(self.speakers) > 1:
            raise UserError("--partner answers one speaker: give one name with --speakers, or leave --partner out")
        if self.partner is not None and MODEL_SPEAKER in self.speakers:
            raise UserError(f"--speakers: {MODEL_SPEAKER!r} is the partner's name; choose another one")
        if len(set(self.speakers)) < len(self.speakers) or not all(name.strip() for name in self.speakers):
            raise UserError("--speakers: every speaker needs a name of their own")
