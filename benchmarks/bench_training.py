"""A step of training beside a text-only LoRA step with peft, and what keeping the lower layers' output saves.

    python benchmarks/bench_training.py SESSIONS

SESSIONS are extracted and aligned. Both train on the same batches with the same LLM in the same precision, in one
process, turn and turn about: a step of ours (phase two: through the LLM, with the contrastive loss), a step of LoRA
(rank 8 on the query and value projections of all layers, peft's own choice), and so on for two epochs, so that whatever
else the machine does slows both alike. The peer, too, computes logits only where a token is to be predicted. Then ours
once more without the cache. CPU time of one thread where there is no GPU, else wall time.
"""

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
import tyro
from peft import LoraConfig, get_peft_model
from tyro.conf import Positional

from natural_video_llm.checkpoint import autocast, load_base_llm
from natural_video_llm.models.chat_format import ChatFormat
from natural_video_llm.models.loss import next_token_loss
from natural_video_llm.sessions.folder import find_sessions
from natural_video_llm.tokenization import tokenizer_sha256
from natural_video_llm.training.dataset import Example, batch_at, collate, load_examples, no_face
from natural_video_llm.training.options import TrainOptions
from natural_video_llm.training.train import Progress, train


class TextOnlyLora:
    """The peer: LoRA on the text alone."""

    def __init__(self, examples: list[Example], batch_size: int):
        base = load_base_llm()
        self._model = get_peft_model(base.model, LoraConfig(r=8, lora_alpha=16)).train()
        parameters = [p for p in self._model.parameters() if p.requires_grad]
        for parameter in parameters:
            parameter.data = parameter.data.float()
        self._optimiser = torch.optim.AdamW(parameters, 1e-4)
        self._examples, self._batch_size = examples, batch_size
        self._pad_id, self._device = base.tokenizer.pad_token_id or 0, base.model.device

    def step(self, number: int) -> None:
        chosen = [self._examples[i] for i in batch_at(number, len(self._examples), self._batch_size, seed=0)]
        batch = collate(chosen, [no_face(e) for e in chosen], self._pad_id).to(self._device)
        llm = self._model.base_model.model
        with autocast(self._device):
            hidden = llm.model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).last_hidden_state
            loss = next_token_loss(llm.lm_head(hidden[batch.keep]), batch.labels[batch.keep])
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._optimiser.step()


@dataclass
class Turns:
    """Lets the peer take its step after each of ours, and keeps the time of both."""

    peer: TextOnlyLora
    ours_s: list[float] = field(default_factory=list)
    peer_s: list[float] = field(default_factory=list)
    _began_s: float | None = None

    def __call__(self, progress: Progress) -> None:
        now_s = _clock()
        if self._began_s is not None:  # the first step is preceded by loading
            self.ours_s.append(now_s - self._began_s)
            self.peer.step(progress.step - 1)
            self.peer_s.append(_clock() - now_s)
        self._began_s = _clock()


def _clock() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def _subset(sessions: Path, count: int, folder: Path) -> Path:
    for session in find_sessions(sessions)[:count]:
        (folder / session.path.name).symlink_to(session.path.resolve())
    return folder


def _report(name: str, ours_s: list[float], peer_s: list[float], batch_size: int) -> float:
    """Prints and returns our examples a second over the peer's."""
    ratio = sum(peer_s) / sum(ours_s)
    rates = (batch_size * len(part) / sum(part) for part in (ours_s, peer_s))
    print(f"{name:38} {len(ours_s):5}   {next(rates):8.2f}   {next(rates):8.2f}   {ratio:8.2f}")
    return ratio


def main(sessions: Positional[Path], sessions_used: int = 3, batch_size: int = 16) -> None:
    """Compare.

    Args:
        sessions: extracted and aligned.
        sessions_used: of how many of them; few make an epoch short.
        batch_size: conversations a step.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = _subset(sessions, sessions_used, folder)

        def options(out: str, **changed: int) -> TrainOptions:
            kind = {"match_steps": 0, "context_turns": 0, "batch_size": batch_size, "test_share": 0.0, "twin": False}
            return TrainOptions(sessions=data, out=folder / out, **{**kind, **changed})

        base = load_base_llm()
        chat, sha256 = ChatFormat(base.tokenizer), tokenizer_sha256(base.tokenizer)
        examples = load_examples(find_sessions(data), chat, sha256, options("x").encoder, 20.0, 0)
        trained = [e for e in examples if _is_for_training(e, data)]
        epoch = len(trained) // batch_size
        peer = TextOnlyLora(trained, batch_size)
        cached, uncached = Turns(peer), Turns(peer)
        train(options("cached", steps=2 * epoch + 1), cached)
        train(options("uncached", steps=epoch + 1, text_cache_mb=0), uncached)
    print(f"{len(trained)} conversations, {batch_size} a step; examples a second")
    print(f"{'':38} {'steps':>5}   {'ours':>8}   {'LoRA':>8}   {'ratio':>8}")
    _report("first epoch, texts read and kept", cached.ours_s[:epoch], cached.peer_s[:epoch], batch_size)
    kept = _report("second epoch, texts kept", cached.ours_s[epoch:], cached.peer_s[epoch:], batch_size)
    anew = _report("texts read anew at every step", uncached.ours_s, uncached.peer_s, batch_size)
    print(f"a step with the texts kept takes {anew / kept:.2f} of one that reads them anew")


def _is_for_training(example: Example, data: Path) -> bool:
    split = {s.start.session_id: s.start.split for s in find_sessions(data)}[example.session_id]
    return split in (None, "train")


if __name__ == "__main__":
    tyro.cli(main)
