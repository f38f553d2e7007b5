r"""How often a run picks the right word of a GRID sentence, slot by slot, given the words before it and the face.

    nvllm import GRID_SPEAKER grid
    nvllm extract grid
    nvllm align grid
    nvllm train grid --out run --folds 5 --window-s 0.8 --batch-size 8 --match-steps 120 --steps 100 \
        --learning-rate 7e-4 --face-noise 0.6
    nvllm eval run
    python benchmarks/bench_grid_words.py run

Each clip is read by the model of the fold that did not train on it. The words to choose from are those that the
training clips hold in that slot. Printed beside: the same without a face, and the most frequent training word.
"""

import argparse
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from natural_video_llm.checkpoint import load_run
from natural_video_llm.evaluation.conditions import Condition, conditions
from natural_video_llm.evaluation.evidence import Scorer
from natural_video_llm.evaluation.held_out import load_test_examples
from natural_video_llm.sessions.folder import Session
from natural_video_llm.training.dataset import Example, no_face

SLOTS = {"command": 0, "colour": 1, "preposition": 2, "adverb": 5}


def with_word(example: Example, slot: int, word: str, tokenizer: PreTrainedTokenizerBase) -> Example:
    """The sentence up to `slot`, ending in `word`, which alone is to be predicted and ends when the true word did."""
    words = example.reply.split()
    first = int(np.flatnonzero(example.target)[0])
    before = tokenizer(" ".join(words[:slot]), add_special_tokens=False)["input_ids"] if slot else []
    through = tokenizer(" ".join(words[: slot + 1]), add_special_tokens=False)["input_ids"]
    ids = tokenizer(" ".join([*words[:slot], word]), add_special_tokens=False)["input_ids"]
    end_s = example.times[first + len(through) - 1]
    times = np.append(example.times[: first + len(before)], [end_s] * (len(ids) - len(before)))
    target = np.zeros(first + len(ids), bool)
    target[first + len(before) :] = True
    return replace(example, ids=np.append(example.ids[:first], ids), times=times, target=target, reply=word)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder of nvllm train, with or without folds")
    run = parser.parse_args().run
    right: dict[str, dict[str, list[bool]]] = {}
    for folder in sorted(run.glob("fold_*")) or [run]:
        model, tokenizer = load_run(folder)
        examples, data = load_test_examples(folder, model, tokenizer)
        scorer = Scorer(model, tokenizer.pad_token_id or 0)
        faces = conditions(examples, model.memory_s, model.config.window_s, seed=0)
        shown: dict[str, Condition] = {n: faces[n] for n in ("true", "0.5 s late", "0.5 s early", "another session")}
        shown["none"] = no_face
        train = json.loads((folder / "run.json").read_text())["train"]
        sentences = [Session(data / name).texts[0].text.split() for name in train]
        for slot, place in SLOTS.items():
            counts = Counter(words[place] for words in sentences)
            choices = sorted(counts)
            posed = [with_word(e, place, word, tokenizer) for e in examples for word in choices]
            truth = [choices.index(e.reply.split()[place]) for e in examples]
            for name, face_of in shown.items():
                given = [face for e in examples for face in [face_of(e)] * len(choices)]
                best = scorer(posed, given).sums.reshape(len(examples), -1).argmax(1)
                right.setdefault(name, {}).setdefault(slot, []).extend((best == truth).tolist())
            common = choices.index(counts.most_common(1)[0][0])
            right.setdefault("most frequent", {}).setdefault(slot, []).extend(t == common for t in truth)
    for name, slots in right.items():
        means = {slot: float(np.mean(hits)) for slot, hits in slots.items()}
        each = "  ".join(f"{slot} {mean:.2f}" for slot, mean in means.items())
        print(f"{name:14} mean {np.mean(list(means.values())):.3f}   {each}")


if __name__ == "__main__":
    main()
