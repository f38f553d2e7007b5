"""The verbs of `nvllm sessions …`; imports are inside them, as in `cli`."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from tyro.conf import Positional

from natural_video_llm.console import bar, console, emit, plain_yes
from natural_video_llm.errors import UserError


def list_(sessions: Positional[Path], json: bool = False) -> None:
    """A line a session: who is filmed, how long, how much was said, how often a face is in view.

    Args:
        sessions: a session folder or a folder of them.
        json: one JSON object a session.
    """
    from rich.table import Table

    from natural_video_llm.sessions.folder import Session, session_folders
    from natural_video_llm.sessions.summary import summarise

    summaries = [summarise(Session(path)) for path in session_folders(sessions)]
    if json:
        for summary in summaries:
            emit(**asdict(summary))
        return
    table = Table()
    for column in ("session", "person", "m:ss", "words", "face seen", "consent"):
        table.add_column(column, overflow="fold")  # an id that is cut short names nothing
    for summary in summaries:
        share = "no latents" if summary.face_share is None else f"{summary.face_share:.1%}"
        consent = "yes" if summary.consent else "no"
        minutes, seconds = divmod(round(60 * summary.minutes), 60)
        length = f"{minutes}:{seconds:02d}"
        table.add_row(summary.session_id, summary.person or "", length, str(summary.words), share, consent)
    console.print(table)


def show(session: Positional[Path], json: bool = False) -> None:
    """What happened in a session, in order of time.

    Args:
        session: a session folder.
        json: its events as they are, one JSON object a line.
    """
    from natural_video_llm.sessions.folder import Session, event_line
    from natural_video_llm.sessions.summary import timeline

    shown = Session(session)
    if json:
        for event in shown.events:
            print(event_line(event).decode(), end="")
        return
    for time_s, line in timeline(shown):
        minutes, seconds = divmod(max(time_s, 0.0), 60)
        console.print(f"{minutes:4.0f}:{seconds:04.1f}  {line}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"consent: {shown.start.consent}", markup=False, highlight=False, soft_wrap=True)


def export(
    sessions: Positional[Path],
    out: Positional[Path],
    latents: tuple[str, ...] | None = None,
    video: bool = False,
    pseudonyms: bool = False,
    float32: bool = False,
    json: bool = False,
) -> None:
    """Write sessions as a parquet data set that Hugging Face `datasets` reads: text, times, latents.

    Args:
        sessions: a session folder or a folder of them.
        out: a new folder for the data set.
        latents: of which encoders, as given to `nvllm extract`; by default of all that are there, with no name none.
        video: take the video along as well.
        pseudonyms: numbers in the place of names; consent texts and times of day are left out.
        float32: latents as 32-bit numbers, for readers that know no 16-bit ones.
        json: progress as JSON lines.
    """
    from natural_video_llm.sessions.exchange import export_parquet
    from natural_video_llm.sessions.folder import session_folders
    from natural_video_llm.sessions.summary import people

    encoders: list[str] | None = None if latents is None else []
    if latents:
        from natural_video_llm.preprocessing.encoders import parse_encoder

        encoders = [str(parse_encoder(name)) for name in latents]
    found = session_folders(sessions)
    with bar("export", json) as progress:
        info = export_parquet(
            found, out, progress.update, encoders=encoders, video=video, pseudonyms=pseudonyms, float32=float32
        )
    counts = info["counts"]
    if json:
        emit(**counts)
        return
    frames = "".join(f", {count} latents of {name}" for name, count in counts["latents"].items())
    said = f"{counts['sessions']} sessions of {people(counts['people'])}, {counts['utterances']} utterances{frames}"
    console.print(f"{said}: {out}", markup=False, highlight=False, soft_wrap=True)


def import_(data: Positional[Path], out: Positional[Path], json: bool = False) -> None:
    """Make session folders of an exported data set; what is there already stays.

    Args:
        data: a folder made by `nvllm sessions export`.
        out: folder for the sessions.
        json: progress as JSON lines.
    """
    from natural_video_llm.sessions.importers import import_folder

    with bar("import", json) as progress:
        report = import_folder(data, out, "parquet", None, progress.update)
    if json:
        emit(**asdict(report))
    else:
        console.print("\n".join(report.lines()), markup=False, highlight=False, soft_wrap=True)


def delete(session: Positional[Path], yes: bool = False, runs: Path | None = None) -> None:
    """Delete a session and all that was made of it: video, text, latents, aligned data.

    Args:
        session: a session folder.
        yes: do not ask.
        runs: a folder of runs; reports that show the session and evaluations that keep words of it are deleted, runs
            that were trained or tested on it are named, and stay.
    """
    from natural_video_llm.sessions.deletion import delete_session, runs_trained_on, session_id_of

    session_id = session_id_of(session)
    if runs is not None and not runs.is_dir():
        raise UserError(f"--runs {runs} is no folder; give the folder that holds the runs, nothing is deleted yet")
    if not yes:
        question = f"Delete {session.resolve()} with its video, text, latents and aligned data?"
        if plain_yes(console, question) is None:
            raise UserError(f"{session} is kept; answer yes or give --yes to delete it")
    made = delete_session(session, runs)
    lines = [f"deleted: {session}", *(f"deleted: {file} (it held something of the session)" for file in made)]
    if runs is not None:
        trained = runs_trained_on(session_id, runs)
        lines += [f"{run} used it for {'training' if part == 'train' else 'testing'}" for run, part in trained]
        lines += [f"no run below {runs} used it"] * (not trained)
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


SESSION_VERBS: dict[str, Callable[..., None]] = {
    "sessions list": list_,
    "sessions show": show,
    "sessions export": export,
    "sessions import": import_,
    "sessions delete": delete,
}
