"""The verbs that say whether the face is used, by figures, by a judge and by a person; imports are inside them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from tyro.conf import Positional

from natural_video_llm.console import bar, console, emit, plain_yes, working
from natural_video_llm.errors import UserError

if TYPE_CHECKING:
    from natural_video_llm.evaluation.judge import Estimated
    from natural_video_llm.evaluation.judging.clients import JudgeAddress


def eval_(
    run: Positional[Path],
    background: bool = False,
    replies: int = 12,
    temperature: float = 0.7,
    embedding: str | None = None,
    faces: bool = True,
    json: bool = False,
) -> None:
    """Find out whether a run uses the right face at the right time; writes eval.json and report.html.

    Args:
        run: a run folder.
        background: also show it the video with the face painted over, which has to be encoded anew the first time.
        replies: held-out messages that are answered under the true, no and another person's face (replies.jsonl).
        temperature: of those replies; 0 always takes the likeliest word.
        embedding: a folder or Hub id of a sentence model, to compare those replies with what people said.
        faces: show pictures of the held-out people in the report; --no-faces leaves them out.
        json: print eval.json instead of tables.
    """
    from natural_video_llm.evaluation.eval import evaluate
    from natural_video_llm.evaluation.replies import ReplyOptions
    from natural_video_llm.evaluation.report import write_report
    from natural_video_llm.evaluation.tables import print_evidence

    if background:
        _extract_backgrounds(run)
    with working("evaluating") as report:
        result, _ = evaluate(run, report, background, ReplyOptions(replies, temperature, embedding))
        report("the report")
        page = write_report(run, faces)
    if json:
        emit(**result)
    else:
        print_evidence(result, console)
        console.print(f"figures: {run / 'eval.json'}\nreport: {page}", markup=False, highlight=False, soft_wrap=True)


def _extract_backgrounds(run: Path) -> None:
    from natural_video_llm.evaluation.held_out import held_out_sessions
    from natural_video_llm.models.fusion_transformer import read_config
    from natural_video_llm.preprocessing.background import extract_backgrounds
    from natural_video_llm.run_folder import run_parts

    with working("painting over faces") as report:
        for part in run_parts(run):
            sessions, config = held_out_sessions(part), read_config(part)
            extract_backgrounds(
                sessions,
                config.encoder,
                config.encoder_sha256,
                os.cpu_count() or 1,
                lambda done, of: report(f"segments with the face painted over: {done} of {of}"),
            )


def compare(runs: Positional[tuple[Path, ...]], json: bool = False) -> None:
    """Paired differences between runs, on what both of two held out; each must have been evaluated.

    Args:
        runs: two run folders or more.
        json: print one JSON object instead of tables.
    """
    from natural_video_llm.evaluation.compare import compare as compare_runs
    from natural_video_llm.evaluation.compare import print_comparison

    result = compare_runs(runs)
    if json:
        emit(**result)
    else:
        print_comparison(result, console)


def report(run: Positional[Path], faces: bool = True, json: bool = False) -> None:
    """Write report.html (and evidence.png, evidence.svg) of a run anew, from its eval.json.

    Args:
        run: a run folder that `nvllm eval` has been through.
        faces: show pictures of the held-out people; --no-faces leaves them out.
        json: print one JSON object.
    """
    from natural_video_llm.evaluation.report import write_report

    with working("writing the report"):
        path = write_report(run, faces)
    if json:
        emit(report=str(path), bytes=path.stat().st_size, faces=faces)
    else:
        console.print(f"report: {path}", markup=False, highlight=False, soft_wrap=True)


def judge(
    run: Positional[Path],
    judge: Positional[str],
    send: Literal["faces", "text"] | None = None,
    price: tuple[float, float] | None = None,
    max_cost_usd: float = 2.0,
    max_tokens: int = 1024,
    timeout_s: float = 120,
    json: bool = False,
) -> None:
    """Let an LLM judge the replies that `nvllm eval` wrote down; writes judge.json.

    It rates coherence and tone, and compares the reply under the true face with those under none and another
    person's, in both orders. What was answered is never asked again: Ctrl-C at any time, and run it again to go on.

    Args:
        run: a run folder, evaluated.
        judge: openai:MODEL, anthropic:MODEL (keys: OPENAI_API_KEY, ANTHROPIC_API_KEY), or the address of any server
            that speaks OpenAI's format: http://localhost:8000/v1#MODEL (key: NVLLM_JUDGE_API_KEY).
        send: what the judge is shown, the conversation with or without pictures of the faces. Naming it is your yes
            to sending that to another machine; with no name it is faces, and you are asked.
        price: US dollars for a million tokens in, and out; needed for a judge on another machine.
        max_cost_usd: no call is made that could take this run's cost above it.
        max_tokens: longest answer, thinking included.
        timeout_s: of one try, in seconds.
        json: print judge.json in place of tables.
    """
    from natural_video_llm.evaluation.judge import Judgement, estimate_cost, judge_replies, write_judgement
    from natural_video_llm.evaluation.judging.answers import Asker, Price
    from natural_video_llm.evaluation.judging.clients import Judge, parse_judge
    from natural_video_llm.evaluation.judging.tables import print_judgement
    from natural_video_llm.evaluation.rate import note_agreement
    from natural_video_llm.run_folder import RAW_FILE

    address = parse_judge(judge)
    if price is None and not address.is_this_machine:
        raise UserError(f"what {address} costs is not known; give --price IN OUT, US dollars for a million tokens")
    paid = Price(*(price or (0.0, 0.0)))
    client = Judge(address, max_tokens, timeout_s)
    judgement = Judgement.of(run, faces=send != "text")
    asker = Asker(client, run / RAW_FILE, paid, max_cost_usd)
    try:
        expected = estimate_cost(judgement, asker, paid)
        if expected.usd > max_cost_usd:
            what = f"{expected.calls} calls would cost about {expected.usd:.2f} USD"
            raise UserError(f"{what}, above the cap of {max_cost_usd:g}; raise --max-cost-usd, or judge fewer replies")
        if expected.calls:
            _agree_to_send(address, expected, send, Console(stderr=True) if json else console)
        with bar("judging", json) as progress:
            result = judge_replies(judgement, client, asker, lambda done, total: progress.update(done, total))
    finally:
        asker.close()
    write_judgement(result, run)
    result["agreement_with_person"] = note_agreement(run)
    if json:
        emit(**result)
    else:
        print_judgement(result, console)


def _agree_to_send(address: "JudgeAddress", expected: "Estimated", send: str | None, told: Console) -> None:
    """Say what goes where and what it costs; ask where it leaves this machine and no option has said yes."""
    pictures = f", {expected.pictures} pictures of the faces of {expected.people} people" if expected.pictures else ""
    what = f"{expected.calls} calls, about {expected.usd:.2f} USD: conversations and replies{pictures}"
    if address.is_this_machine:
        _say(f"{what}, to {address}, which is this machine: nothing leaves it", told)
        return
    _say(f"{what}, to {address.host} ({address.model})", told)
    if send is not None:
        return
    said = "The people must have agreed: the consent that `nvllm capture` asks for says that nothing is sent anywhere."
    _say(said, told)
    if plain_yes(told, "Send this?") is None:
        raise UserError(
            "nothing was sent; answer yes, give --send faces or --send text, or name a judge on this machine"
        )


def rate(
    run: Positional[Path], seed: int = 0, faces: bool = True, open_pictures: bool = False, json: bool = False
) -> None:
    """Compare replies yourself, blind: 1, 2 or tie, q to stop; tells how far you and the judge agree.

    Each answer is written down at once (ratings.jsonl); run it again to go on.

    Args:
        run: a run folder, evaluated.
        seed: of the order, and of the side on which a reply stands.
        faces: show pictures of the person's face; --no-faces shows the words alone.
        open_pictures: open each contact sheet of the person's face in this desktop's viewer.
        json: the agreement as JSON.
    """
    import tempfile
    import webbrowser

    from natural_video_llm.evaluation.judge import Scenes, pairs_of
    from natural_video_llm.evaluation.rate import note_agreement, rate_pairs, read_ratings
    from natural_video_llm.evaluation.reply_records import read_replies

    replies = read_replies(run)
    with tempfile.TemporaryDirectory(prefix="nvllm-rate-") as folder:
        picture = Path(folder) / "face.jpg"

        def show(text: str, sheet: bytes | None) -> None:
            _say(text)
            if sheet is not None:
                picture.write_bytes(sheet)
                _say(f"the face, until the reply was there: {picture} (deleted at the end)")
                if open_pictures:
                    webbrowser.open(picture.as_uri())

        def ask() -> str:
            try:
                return console.input("which is better? [1/2/tie/q] ", markup=False)
            except EOFError:
                return "q"

        rated = rate_pairs(run, pairs_of(replies), Scenes(run, replies, faces), seed, show, ask)
    found = note_agreement(run)
    if json:
        emit(rated=rated, agreement_with_person=found)
        return
    _say(f"{rated} pairs rated now, {len(read_ratings(run))} in all")
    if found is None:
        _say(f"no judge has judged these pairs yet: nvllm eval judge {run} JUDGE")
    else:
        kappa = "not defined" if found["kappa"] is None else f"{found['kappa']:.2f}"
        _say(f"you and the judge agree on {found['agreement']:.0%} of {found['pairs']} pairs (Cohen's kappa {kappa})")


def _say(text: str, told: Console = console) -> None:
    told.print(text, markup=False, highlight=False, soft_wrap=True)


EVAL_VERBS: dict[str, Callable[..., None]] = {
    "eval": eval_,
    "eval judge": judge,
    "eval rate": rate,
    "report": report,
    "compare": compare,
}
