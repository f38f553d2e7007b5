"""`nvllm`: one verb a stage. Imports are inside the verbs, so that `nvllm --help` answers at once."""

import os
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

import tyro
from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction

from natural_video_llm.assets import DEFAULT_LLM, STARTER, face_landmarker_file
from natural_video_llm.cli_capture import CAPTURE_VERBS
from natural_video_llm.cli_eval import EVAL_VERBS
from natural_video_llm.cli_pretrain import PRETRAIN_VERBS
from natural_video_llm.cli_serve import SERVE_VERBS
from natural_video_llm.cli_sessions import SESSION_VERBS
from natural_video_llm.console import bar, console, emit, is_main_process, working
from natural_video_llm.errors import UserError, need_between
from natural_video_llm.preprocessing.options import DEFAULT_ENCODER, DEFAULT_EXECUTION, Execution, ExtractOptions
from natural_video_llm.sessions.layouts import Layout
from natural_video_llm.stop_signals import on_stop_signals
from natural_video_llm.training.config_file import with_config
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


def import_(
    folder: Positional[Path],
    out: Positional[Path],
    layout: Layout | None = None,
    person: str | None = None,
    json: bool = False,
) -> None:
    """Turn other people's data into session folders; what is there already stays, so it can be interrupted.

    clips: a video beside a file of the same name: .align (GRID), .json (word-level, as Whisper tools write it),
    .vtt or .srt; one session a clip. seamless (Seamless Interaction), candor, multidialog: the data set as it is
    unpacked; one session for each filmed person of a conversation, with the words of both. parquet: made by
    `sessions export`.

    Args:
        folder: where the data is.
        out: folder for the sessions.
        layout: how the data is laid out; found out by default.
        person: who is filmed in all of the clips; the folder's name by default.
        json: progress as JSON lines.
    """
    from natural_video_llm.sessions.importers import detect_layout, import_folder
    from natural_video_llm.sessions.importers.takes import BrokenClipsError

    chosen = layout or detect_layout(folder)
    if not json:
        found = "" if layout else " (found by its files; --layout says otherwise)"
        console.print(f"{folder}: {chosen}{found}", markup=False, highlight=False, soft_wrap=True)
    broken: BrokenClipsError | None = None
    with bar(chosen, json) as progress:
        try:
            report = import_folder(folder, out, chosen, person, progress.update)
        except BrokenClipsError as error:
            broken, report = error, error.report
    if json:
        emit(layout=chosen, **asdict(report))
    else:
        console.print("\n".join(report.lines()), markup=False, highlight=False, soft_wrap=True)
    if broken is not None:
        raise broken


def extract(options: OmitArgPrefixes[ExtractOptions], json: bool = False) -> None:
    """Video → latents, for every finished segment that has none yet.

    Args:
        options: of what, with which encoder, how.
        json: progress as JSON lines.
    """
    if options.workers is not None:
        need_between("--workers", options.workers, 1, 256)
    if not options.watch:
        _extract(options, json)
        return
    if options.ray is not None:
        raise UserError("extract --watch works on this machine alone; leave --ray out, or leave --watch out")
    wake: SimpleQueue[str] = SimpleQueue()
    with on_stop_signals(lambda: wake.put("stop")):  # before all that takes time, loading libraries included
        from natural_video_llm.preprocessing.watch_segments import watch_segments

        watch_segments(options.sessions, options.encoder, options.workers or _CORES, options.execution, wake, json)


def _extract(options: ExtractOptions, json: bool) -> None:
    from natural_video_llm.preprocessing.extract_video_latents import FailedSegmentsError
    from natural_video_llm.preprocessing.extract_video_latents import extract as extract_segments
    from natural_video_llm.sessions.folder import find_sessions

    sessions = options.sessions
    found = find_sessions(sessions)
    total = sum(len(s.finished_segments) for s in found)
    if not total:
        raise UserError(f"{sessions}: no finished video segment; record or make sessions first")
    latents = seen = crowded = 0
    segments = extract_segments(found, options.encoder, options.workers, options.execution, options.ray)
    try:
        with bar("segments", json) as progress, closing(segments):
            for done, segment in enumerate(segments, start=1):
                latents, seen, crowded = latents + segment.latents, seen + segment.seen, crowded + segment.crowded
                several = f", several faces in {crowded / latents:.1%}" if crowded else ""
                note = f"face in {seen / max(latents, 1):.1%} of {latents} latents{several}"
                progress.update(done, total, note, latents=latents, seen=seen, crowded=crowded)
    except FailedSegmentsError as error:
        if json:
            for failed in error.failed:
                emit(file=str(failed.video), error=failed.why)
        raise
    if latents and not seen:
        raise UserError(f"{sessions}: no face in any of {latents} latents; check light, distance and camera")


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

    need_between("--window-s", window_s, 0.1, 3600)
    found = find_sessions(sessions)
    tokenizer = load_tokenizer(llm)
    with bar("sessions", json) as progress:
        for done, session in enumerate(found, start=1):
            count = align_session(session, tokenizer, llm, str(parse_encoder(encoder)), window_s)
            progress.update(done, len(found), utterances=count)


def train(options: OmitArgPrefixes[TrainOptions], json: bool = False) -> None:
    """Train an adapter on aligned sessions, and its text-only twin.

    Ctrl-C stops after the step in hand, with a checkpoint for --resume. Several processes train one model together:
    `accelerate launch --num_processes 2 -m natural_video_llm train …`, or `torchrun` in the same way on CPUs.

    Args:
        options: what to train, on what, for how long.
        json: progress as JSON lines.
    """
    from natural_video_llm.training.checkpoints import checkpoint_folders
    from natural_video_llm.training.train import Progress
    from natural_video_llm.training.train import train as run_training

    asked: list[bool] = []
    begun = False

    def stop() -> None:
        """Before the first step, and when asked again, at once; else after the step in hand."""
        if asked or not begun:
            raise KeyboardInterrupt
        asked.append(True)

    def should_stop() -> bool:
        nonlocal begun
        begun = True
        return bool(asked)

    try:
        with bar("training", json) as progress, on_stop_signals(stop):

            def report(now: Progress) -> None:
                note = f"{now.part}: {now.bits:.2f} bits, {now.left_s / 60:.1f} min left"
                progress.update(now.step, now.steps, note, part=now.part, bits=now.bits, left_s=now.left_s)

            held_out = run_training(options, report, should_stop)
    except KeyboardInterrupt:
        if is_main_process() and checkpoint_folders(options.out):
            print(f"nvllm: {options.out} can go on: the same command with --resume", file=sys.stderr)
        raise
    if not is_main_process():
        return
    if not held_out:
        lost = "nothing was held out, so that nothing can show whether the face is used"
        print(f"nvllm: {options.out}: {lost}", file=sys.stderr)
    if not json:
        then = f"nvllm eval {options.out}" if held_out else f"nvllm chat {options.out}"
        console.print(f"trained: {options.out} (next: {then})", markup=False, soft_wrap=True)


def export(run: Positional[Path], out: Positional[Path]) -> None:
    """Write a run as a plain Hugging Face model with LoRA merged in, the adapter and a model card beside it.

    Args:
        run: a run folder.
        out: the folder to write.
    """
    from natural_video_llm.export import export as export_run

    with working("exporting"):
        export_run(run, out)
    console.print(f"exported: {out} (talk to it: nvllm chat {out / 'adapter'})", markup=False, soft_wrap=True)


def chat(
    run: Positional[Path] = Path(STARTER),
    camera: int = 0,
    video: Path | None = None,
    say: UseAppendAction[tuple[str, ...]] = (),
    temperature: float = 0.7,
    seed: int = 0,
    execution: OmitArgPrefixes[Execution] = DEFAULT_EXECUTION,
    weights: Literal["native", "int8", "int4"] = "native",
) -> None:
    """Talk to a run in the terminal; every word is written with the newest face in view.

    Args:
        run: a run folder; "starter" is the adapter that comes with the package, trained on sample speakers alone.
        camera: number of the camera.
        video: a file in the camera's place, played at its own speed; after the last --say, or the end of a piped
            input, it is played to its end, while `quit` ends at once.
        say: a message to send in place of the keyboard; give it again for the next one.
        temperature: 0 always takes the likeliest word.
        seed: of the sampling.
        execution: of a neural encoder.
        weights: of the LLM's linear maps: native as they are, int8 or int4 for fewer bits, which a CPU reads faster.
    """
    from natural_video_llm.inference.conversation import Sampling
    from natural_video_llm.inference.realtime_interaction import talk

    need_between("--temperature", temperature, 0, 2)
    need_between("--seed", seed, 0, 2**63 - 1)
    source = video if video is not None else camera
    talk(run, source, say, Sampling(temperature, seed=seed), execution, weights)


def doctor(
    encoder: UseAppendAction[tuple[str, ...]] = (),
    execution: OmitArgPrefixes[Execution] = DEFAULT_EXECUTION,
    json: bool = False,
) -> None:
    """Check this machine: libraries, disk, models, cameras, and which encoders keep up with live video.

    Args:
        encoder: an encoder to time beside face-geometry, as given to `nvllm extract`; give it again for the next one.
        execution: of neural encoders.
        json: print one JSON object instead of tables.
    """
    try:
        from natural_video_llm.doctor import examine, print_examination
    except (ImportError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"a library cannot be loaded ({reason}); install natural-video-llm anew, in an environment of its own"
        ) from error

    with working("checking this machine") as report:
        found = examine(encoder, execution, report)
    if json:
        emit(**found)
    else:
        print_examination(found, console)
    if found["broken"]:
        raise UserError("; ".join(found["broken"]))


VERBS: dict[str, Callable[..., None]] = {
    "sample": sample,
    "import": import_,
    **PRETRAIN_VERBS,
    "extract": extract,
    "align": align,
    "train": train,
    **EVAL_VERBS,
    "export": export,
    "chat": chat,
    **CAPTURE_VERBS,
    "doctor": doctor,
    **SESSION_VERBS,
    **SERVE_VERBS,
}


def _joined(arguments: list[str]) -> list[str]:
    """A verb of two words as one. `nvllm eval rate` alone means the run folder `rate` where there is one."""
    verb = " ".join(arguments[:2])
    names_a_run = len(arguments) == 2 and arguments[0] in VERBS and Path(arguments[1]).is_dir()
    return arguments if verb not in VERBS or names_a_run else [verb, *arguments[2:]]


def main() -> None:
    """Entry point: 0 when the work is done, 1 on a person's mistake, 2 on wrong usage, 130 after Ctrl-C."""
    arguments = _joined(sys.argv[1:])
    try:
        if arguments[:1] == ["train"]:
            arguments[1:] = with_config(arguments[1:])
        tyro.extras.subcommand_cli_from_dict(
            VERBS,
            args=arguments,
            prog="nvllm",
            description="A language model that reads the face in front of it: record, extract, align, train, "
            "evaluate, talk.",
        )
    except UserError as error:
        for line in str(error).split("\n") if is_main_process() else []:
            print(f"nvllm: {line}", file=sys.stderr)
        raise SystemExit(1) from None
    except BrokenPipeError:  # `… | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:  # a file that nobody may read, a full disk: whatever no stage has a better line for
        if error.filename is None or error.strerror is None:
            raise
        if is_main_process():
            print(f"nvllm: {error.filename}: {error.strerror}; mend that, then run again", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        if is_main_process():
            print("nvllm: stopped", file=sys.stderr)
        raise SystemExit(130) from None
