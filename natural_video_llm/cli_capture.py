"""The verbs of `nvllm capture …`; imports are inside them, as in `cli`."""

from collections.abc import Callable
from pathlib import Path

from tyro.conf import OmitArgPrefixes, Positional

from natural_video_llm.capture.options import BothOptions, VideoOptions
from natural_video_llm.console import console


def video(folder: Positional[Path], options: OmitArgPrefixes[VideoOptions], json: bool = False) -> None:
    """Record a camera into a session, every frame with its capture time; Ctrl-C stops.

    Args:
        folder: the session's folder, begun or joined; its name is the session's id.
        options: what to record and how.
        json: progress as JSON lines.
    """
    from rich.console import Console

    from natural_video_llm.capture.webcam_video_logger import record_video

    status = record_video(folder, options, Console(stderr=True) if json else console, json)
    if not json:
        kept = f"{status.frames - status.dropped} frames kept, {status.dropped} dropped, in {folder}"
        console.print(f"{kept} (next: nvllm extract {folder})", markup=False, highlight=False, soft_wrap=True)


def text(
    folder: Positional[Path],
    speaker: str | None = None,
    filmed: str | None = None,
    person: str | None = None,
    yes: Path | None = None,
    dictated: bool = False,
) -> None:
    """Record a keyboard into a session: each line with the time of every key; quit, Ctrl-D or Ctrl-C stops.

    Runs beside `capture video` in another terminal, before it or after it; a pipe gives lines timed as a whole.

    Args:
        folder: the session's folder, begun or joined; its name is the session's id.
        speaker: who types; who is filmed by default.
        filmed: who is filmed in a session that this begins.
        person: the filmed person's name across sessions, where there are several of one person.
        yes: a text file with the consent that was given elsewhere, in place of the question.
        dictated: the lines come from speech recognition.
    """
    from natural_video_llm.capture.text_sync_logger import record_text

    record_text(folder, console, speaker=speaker, filmed=filmed, person=person, yes_file=yes, dictated=dictated)


def both(folder: Positional[Path], options: OmitArgPrefixes[BothOptions]) -> None:
    """Record camera and keyboard in one terminal: speakers type in turn, or a model answers.

    Args:
        folder: the session's folder, begun or joined; its name is the session's id.
        options: who types, who answers, and what films.
    """
    from natural_video_llm.capture.capture_both import record_both

    options.check()  # before anything is loaded
    open_partner = None
    if options.partner is not None:
        from natural_video_llm.inference.partner import load_partner

        with console.status("loading the partner"):
            open_partner = load_partner(options.partner, options.temperature, options.seed)
    record_both(folder, options, open_partner, console)


CAPTURE_VERBS: dict[str, Callable[..., None]] = {
    "capture video": video,
    "capture text": text,
    "capture both": both,
}
