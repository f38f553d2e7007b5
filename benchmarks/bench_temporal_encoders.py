r"""What the temporal encoders and the losses are worth: each trained alike on the same data, as markdown tables.

    scripts/demo.sh demo                      # or any sample sessions, extracted and aligned
    nvllm import GRID_SPEAKER grid && nvllm extract grid && nvllm align grid
    python benchmarks/bench_temporal_encoders.py demo/sessions work --grid grid

On sample data the figure is choice bits on held-out people and messages (2.58 at best among six replies); on GRID,
where one person speaks, bits a word that the right face saves over none and over the same face half a second late, each
clip read by the model of the fold that did not train on it. Scores and intervals are those of `nvllm eval`, of the
conditions that the tables need alone. A run that is there already is scored again, not trained again: an interrupted
benchmark goes on where it was.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from natural_video_llm.checkpoint import load_run
from natural_video_llm.evaluation.conditions import conditions
from natural_video_llm.evaluation.evidence import Scorer
from natural_video_llm.evaluation.held_out import load_test_examples
from natural_video_llm.evaluation.reaction import reaction_errors
from natural_video_llm.evaluation.scoring import Part, candidates_of, score_choices
from natural_video_llm.evaluation.summary import summarise
from natural_video_llm.models.temporal_encoder import TEMPORAL_ENCODERS
from natural_video_llm.run_folder import run_parts
from natural_video_llm.training.options import TrainOptions
from natural_video_llm.training.train import Progress, holds_run, train

SAMPLE: dict[str, Any] = {"context_turns": 0, "twin": False}
GRID: dict[str, Any] = {
    **{"folds": 3, "twin": False, "window_s": 0.8, "batch_size": 8, "match_steps": 120, "steps": 100},
    **{"learning_rate": 7e-4, "face_noise": 0.6},
}
STEPS = (15, 30, 60, 150, 220)
LOSSES: dict[str, dict[str, Any]] = {
    "next token alone": {"contrastive_weight": 0.0},
    "next token, reaction": {"contrastive_weight": 0.0, "reaction_weight": 0.3},
    "next token, contrastive, no matching before": {"match_steps": 0},
    "matching, next token, contrastive (default)": {},
    "matching, next token, contrastive, reaction": {"reaction_weight": 0.3},
}


def found(run: Path, sessions: Path, changed: dict[str, Any]) -> dict[str, Any]:
    """What a run with these options makes of its held-out data; trained where it is not there."""
    out = [run / f"fold_{i}" for i in range(changed.get("folds", 0))] or [run]
    if not all(_is_trained(folder) for folder in out):
        train(TrainOptions(sessions=sessions, out=run, resume=holds_run(run), **changed), _say)
    return summarise([scored(folder) for folder in run_parts(run)])


def scored(folder: Path) -> Part:
    """The model in `folder` on what it held out, with the right face, none and the right one half a second late."""
    model, tokenizer = load_run(folder)
    pad_id = tokenizer.pad_token_id or 0
    examples, data = load_test_examples(folder, model, tokenizer)
    shown = conditions(examples, model.memory_s, model.config.window_s, seed=0)
    scorer, candidates = Scorer(model, pad_id), candidates_of(examples, data)
    scores = {name: scorer(examples, [shown[name](e) for e in examples]) for name in ("true", "none", "0.5 s late")}
    true = {"true": shown["true"]}
    choices = score_choices(scorer, tokenizer, examples, candidates, true, lambda _: None) if candidates else {}
    reactions = reaction_errors(model, examples, pad_id) if model.config.reaction else None
    return Part(examples, scores, choices, candidates, reactions)


def _is_trained(folder: Path) -> bool:
    file = folder / "run.json"
    return file.is_file() and json.loads(file.read_text(encoding="utf-8")).get("trained", False)


def _say(now: Progress) -> None:
    print(f"\r{now.part} {now.step}/{now.steps}, {now.bits:.2f} bits, {now.left_s:.0f} s left   ", end="", flush=True)


def interval(figures: list[float]) -> str:
    value, low, high = figures
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def table(heading: list[str], rows: list[list[str]]) -> None:
    for line in (heading, ["---"] * len(heading), *rows):
        print(f"| {' | '.join(line)} |", flush=True)
    print()


def sample_row(name: str, result: dict[str, Any]) -> list[str]:
    true = result["choices"]["true"]
    ahead = (result.get("reaction") or {}).get("1.0 s")
    against = ("stays as it is", "linear extrapolation", "back to neutral")
    ratios = ", ".join(f"{ahead[f'ratio to {n}'][0]:.2f}" for n in against) if ahead else "–"
    saved = result["conditions"]["none"]["true_saves_per_word"]
    return [name, interval(true["choice_bits"]), interval(true["right"]), interval(saved), ratios]


def grid_row(name: str, result: dict[str, Any]) -> list[str]:
    return [name, *(interval(result["conditions"][c]["true_saves_per_word"]) for c in ("none", "0.5 s late"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sessions", type=Path, help="sample sessions, extracted and aligned")
    parser.add_argument("work", type=Path, help="folder for the runs")
    parser.add_argument("--grid", type=Path, help="sessions of one GRID speaker, extracted and aligned")
    parser.add_argument("--steps", type=int, help="steps through the LLM, in place of the recipes' own")
    parser.add_argument("--only", choices=["encoders", "losses", "steps"])
    given = parser.parse_args()
    short = {"steps": given.steps} if given.steps else {}
    sample_heading = [
        "choice bits",
        "right",
        "bits a word over no face",
        "squared error 1 s ahead / stays, line, neutral",
    ]
    wanted = [given.only] if given.only else ["encoders", "losses", "steps"]
    if "encoders" in wanted:
        runs = {name: {**SAMPLE, **short, "temporal_encoder": name} for name in TEMPORAL_ENCODERS}
        rows = [sample_row(n, found(given.work / f"sample-{n}", given.sessions, o)) for n, o in runs.items()]
        table(["temporal encoder, sample data", *sample_heading], rows)
    if "encoders" in wanted and given.grid:
        runs = {name: {**GRID, **short, "temporal_encoder": name} for name in TEMPORAL_ENCODERS}
        rows = [grid_row(n, found(given.work / f"grid-{n}", given.grid, o)) for n, o in runs.items()]
        table(["temporal encoder, GRID", "bits a word over no face", "over half a second late"], rows)
    if "losses" in wanted:
        parts = {name: {**SAMPLE, **short, **changed} for name, changed in LOSSES.items()}
        places = {name: given.work / f"losses-{number}" for number, name in enumerate(parts)}
        rows = [sample_row(n, found(places[n], given.sessions, o)) for n, o in parts.items()]
        table(["losses, sample data", *sample_heading], rows)
    if "steps" in wanted:
        rows = [
            sample_row(str(n), found(given.work / f"steps-{n}", given.sessions, {**SAMPLE, "steps": n})) for n in STEPS
        ]
        table(["steps through the LLM", *sample_heading], rows)


if __name__ == "__main__":
    main()
