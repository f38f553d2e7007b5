"""`nvllm`: one verb a stage. Imports are inside the verbs, so that `nvllm --help` answers at once."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

import tyro
from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction

from natural_video_llm.assets import DEFAULT_LLM, face_landmarker_file
from natural_video_llm.capture.options import BothOptions, VideoOptions
from natural_video_llm.console import bar, console, emit, working
from natural_video_llm.errors import UserError
from natural_video_llm.preprocessing.options import DEFAULT_ENCODER, ExtractOptions, PretrainOptions
from natural_video_llm.stop_signals import on_stop_signals
from natural_video_llm.training.options import TrainOptions

_CORES = os.cpu_count() or 1


def sample(
    out: Positional[Path],
    people: int = 24,
    held_out_people: int = 6,
    held_out_messages: int = 30,
    turns: int = 30,
    rate_hz: float = 15,
    seed: int = 0,
    workers: int = _CORES,
    json: bool = False,
) -> None:
    """Make sessions of the sample speaker: a portrait brought to life, so that no camera is needed.

    Args:
        out: folder for the sessions.
        people: how many different faces.
        held_out_people: how many of them are for testing only.
        held_out_messages: how many messages only those say.
        turns: messages a person.
        rate_hz: frames a second.
        seed: the same seed gives the same sessions.
        workers: processes.
        json: progress as JSON lines.
    """
    from natural_video_llm.capture.sample_speaker import write_sample_sessions

    with bar("sample speakers", json) as progress:
        write_sample_sessions(
            out,
            face_landmarker_file(),
            people=people,
            held_out_people=held_out_people,
            held_out_messages=held_out_messages,
            turns=turns,
            rate_hz=rate_hz,
            seed=seed,
            workers=workers,
            progress=progress.update,
        )


def import_(folder: Positional[Path], out: Positional[Path], person: str | None = None, json: bool = False) -> None:
    """Turn clips with word timings into session folders, one a clip.

    A clip is a video beside a file of the same name: .align (GRID), .json (word-level, as Whisper tools
    write it), .vtt or .srt.

    Args:
        folder: where the clips are.
        out: folder for the sessions.
        person: who is filmed in all of the clips; the folder's name by default.
        json: progress as JSON lines.
    """
    from natural_video_llm.sessions.importers import import_clips

    with bar("clips", json) as progress:
        import_clips(folder, out, person or folder.resolve().name, progress.update)


def extract(options: OmitArgPrefixes[ExtractOptions], json: bool = False) -> None:
    """Video → latents, for every finished segment that has none yet.

    Args:
        options: of what, with which encoder, how.
        json: progress as JSON lines.
    """
    if not options.watch:
        _extract(options, json)
        return
    wake: SimpleQueue[str] = SimpleQueue()
    with on_stop_signals(lambda: wake.put("stop")):  # before all that takes time, loading libraries included
        from natural_video_llm.preprocessing.encoders import Execution
        from natural_video_llm.preprocessing.watch_segments import watch_segments

        execution = Execution(options.device, options.dtype, options.onnx)
        watch_segments(options.sessions, options.encoder, options.workers, execution, wake, json)


def _extract(options: ExtractOptions, json: bool) -> None:
    from natural_video_llm.preprocessing.encoders import Execution
    from natural_video_llm.preprocessing.extract_video_latents import extract as extract_segments
    from natural_video_llm.sessions.folder import find_sessions

    sessions = options.sessions
    found = find_sessions(sessions)
    total = sum(len(s.finished_segments) for s in found)
    if not total:
        raise UserError(f"{sessions}: no finished video segment; record or make sessions first")
    latents = seen = crowded = 0
    execution = Execution(options.device, options.dtype, options.onnx)
    with bar("segments", json) as progress:
        segments = extract_segments(found, options.encoder, options.workers, execution)
        for done, segment in enumerate(segments, start=1):
            latents, seen, crowded = latents + segment.latents, seen + segment.seen, crowded + segment.crowded
            several = f", several faces in {crowded / latents:.1%}" if crowded else ""
            note = f"face in {seen / max(latents, 1):.1%} of {latents} latents{several}"
            progress.update(done, total, note, latents=latents, seen=seen, crowded=crowded)
    if latents and not seen:
        raise UserError(f"{sessions}: no face in any of {latents} latents; check light, distance and camera")


def pretrain_encoder(options: OmitArgPrefixes[PretrainOptions], json: bool = False) -> None:
    """Learn a video encoder of one's own from face crops, without labels: what is hidden is told from what is shown.

    Args:
        options: from what, to where, how large and for how long.
        json: progress and what was learned as JSON lines.
    """
    from natural_video_llm.preprocessing.pretrain_encoder import PretrainProgress, pretrain, summary

    with bar("pretraining", json) as progress:

        def report(now: PretrainProgress) -> None:
            note = now.part if now.loss is None else f"{now.part}: loss {now.loss:.2f}"
            progress.update(now.done, now.total, note, part=now.part, loss=now.loss)

        record = pretrain(options, report)
    if json:
        emit(**record)
    else:
        console.print(summary(record), markup=False, highlight=False, soft_wrap=True)
        next_ = f"nvllm extract {options.sessions} --encoder {record['encoder']}"
        console.print(f"learned: {options.out} (next: {next_})", markup=False, highlight=False, soft_wrap=True)


def align(
    sessions: Positional[Path],
    llm: str = DEFAULT_LLM,
    encoder: str = DEFAULT_ENCODER,
    window_s: float = 3.0,
    json: bool = False,
) -> None:
    """Text ↔ latents: gives every token its time and its stretch of latents.

    Args:
        sessions: a session folder or a folder of them, extracted.
        llm: whose tokenizer cuts the text: the default's name, a folder or a Hub id.
        encoder: whose latents, as given to `nvllm extract`.
        window_s: how far back a token may see, in seconds.
        json: progress as JSON lines.
    """
    from natural_video_llm.checkpoint import load_tokenizer
    from natural_video_llm.preprocessing.align_text_video import align_session
    from natural_video_llm.preprocessing.encoders import parse_encoder
    from natural_video_llm.sessions.folder import find_sessions

    found = find_sessions(sessions)
    tokenizer = load_tokenizer(llm)
    with bar("sessions", json) as progress:
        for done, session in enumerate(found, start=1):
            count = align_session(session, tokenizer, llm, str(parse_encoder(encoder)), window_s)
            progress.update(done, len(found), utterances=count)


def train(options: OmitArgPrefixes[TrainOptions], json: bool = False) -> None:
    """Train an adapter on aligned sessions, and its text-only twin.

    Args:
        options: what to train, on what, for how long.
        json: progress as JSON lines.
    """
    from natural_video_llm.training.train import Progress
    from natural_video_llm.training.train import train as run_training

    with bar("training", json) as progress:

        def report(now: Progress) -> None:
            note = f"{now.part}: {now.bits:.2f} bits, {now.left_s / 60:.1f} min left"
            progress.update(now.step, now.steps, note, part=now.part, bits=now.bits, left_s=now.left_s)

        run_training(options, report)
    if not json:
        console.print(f"trained: {options.out} (next: nvllm eval {options.out})", markup=False, soft_wrap=True)


def eval_(run: Positional[Path], json: bool = False) -> None:
    """Find out whether a run uses the right face at the right time; writes eval.json.

    Args:
        run: a run folder.
        json: print eval.json instead of tables.
    """
    from natural_video_llm.evaluation.eval import evaluate
    from natural_video_llm.evaluation.tables import print_evidence

    with working("evaluating") as report:
        result, _ = evaluate(run, report)
    if json:
        emit(**result)
    else:
        print_evidence(result, console)
        console.print(f"figures: {run / 'eval.json'}", markup=False, soft_wrap=True)


def chat(
    run: Positional[Path],
    camera: int = 0,
    video: Path | None = None,
    say: UseAppendAction[tuple[str, ...]] = (),
    temperature: float = 0.7,
    seed: int = 0,
) -> None:
    """Talk to a run in the terminal; every word is written with the newest face in view.

    Args:
        run: a run folder.
        camera: number of the camera.
        video: a file in the camera's place, played at its own speed.
        say: a message to send in place of the keyboard; give it again for the next one.
        temperature: 0 always takes the likeliest word.
        seed: of the sampling.
    """
    from natural_video_llm.inference.realtime_interaction import talk

    talk(run, video if video is not None else camera, say, temperature, seed)


def capture_video(folder: Positional[Path], options: OmitArgPrefixes[VideoOptions], json: bool = False) -> None:
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


def capture_text(
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


def capture_both(folder: Positional[Path], options: OmitArgPrefixes[BothOptions]) -> None:
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


_LATER = {
    "serve": "the page and the API",
    "sessions list": "listing sessions",
    "sessions show": "showing a session",
    "sessions export": "exporting a session",
    "sessions delete": "deleting a session",
    "doctor": "checking this machine",
}


def _later(what: str) -> Callable[[], None]:
    """Lists a planned verb in the help; `main` answers it before any option is read."""

    def refuse() -> None:
        raise SystemExit(2)

    refuse.__doc__ = f"{what[0].upper()}{what[1:]} (planned, not built yet)."
    return refuse


VERBS: dict[str, Callable[..., None]] = {
    "sample": sample,
    "import": import_,
    "pretrain-encoder": pretrain_encoder,
    "extract": extract,
    "align": align,
    "train": train,
    "eval": eval_,
    "chat": chat,
    "capture video": capture_video,
    "capture text": capture_text,
    "capture both": capture_both,
    **{verb: _later(what) for verb, what in _LATER.items()},
}


def main() -> None:
    """Entry point: 0 when the work is done, 1 on a person's mistake, 2 on wrong usage, 130 after Ctrl-C."""
    for verb, what in _LATER.items():
        if sys.argv[1:][: len(verb.split())] == verb.split():
            print(f"nvllm {verb}: {what} is planned and not built yet", file=sys.stderr)
            raise SystemExit(2)
    arguments = sys.argv[1:]
    if " ".join(arguments[:2]) in VERBS:  # a verb of two words
        arguments[:2] = [" ".join(arguments[:2])]
    try:
        tyro.extras.subcommand_cli_from_dict(
            VERBS,
            args=arguments,
            prog="nvllm",
            description="A language model that reads the face in front of it: record, extract, align, train, "
            "evaluate, talk.",
        )
    except UserError as error:
        print(f"nvllm: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("nvllm: stopped", file=sys.stderr)
        raise SystemExit(130) from None
