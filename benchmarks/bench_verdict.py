"""How often `nvllm eval` says that the face is used where it is, and where it cannot be.

python benchmarks/bench_verdict.py [--seeds 20] [--people 12] [--turns 20] [--out FOLDER]

For every seed a tiny model is trained on sessions whose faces decide the replies and another one on sessions whose
faces have nothing to do with them (`planted_faces.py`), two folds each; then both are evaluated.
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from planted_faces import make_sessions, make_tiny_llm, train_options

from natural_video_llm.assets import DEFAULT_LLM
from natural_video_llm.checkpoint import load_tokenizer
from natural_video_llm.evaluation.eval import evaluate
from natural_video_llm.training.train import train


def verdicts(
    folder: Path, true_pairs: bool, seeds: range, people: int, turns: int, llm_name: str = DEFAULT_LLM
) -> Iterator[dict[str, Any]]:
    """eval.json of each seed's model."""
    llm = folder / "llm"
    if not llm.exists():
        make_tiny_llm(llm, llm_name)
    tokenizer = load_tokenizer(str(llm))
    for seed in seeds:
        here = folder / f"{'true' if true_pairs else 'random'}_{seed}"
        make_sessions(here / "sessions", tokenizer, true_pairs, seed, people, turns)
        train(train_options(here / "sessions", here / "run", llm, seed), lambda _: None)
        yield evaluate(here / "run", lambda _: None)[0]


def main() -> None:
    """Prints a line a model, then how often each verdict was given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as beside:
        folder = arguments.out or Path(beside)
        for true_pairs in (True, False):
            pairs = "true pairs" if true_pairs else "random pairs"
            counts: Counter[str] = Counter()
            found = verdicts(folder, true_pairs, range(arguments.seeds), arguments.people, arguments.turns)
            for seed, result in enumerate(found):
                counts[result["verdict"]["face"]] += 1
                print(f"{pairs}, seed {seed}: {result['verdict']['face']}. {result['verdict']['words']}", flush=True)
            print(f"{pairs}: {', '.join(f'{face} {count}' for face, count in counts.most_common())}", flush=True)


if __name__ == "__main__":
    main()
