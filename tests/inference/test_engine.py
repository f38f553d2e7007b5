"""A conversation remembers what was shown, stays within its bounds, and says the same under the same seed."""

from collections.abc import Callable, Iterator

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from natural_video_llm.checkpoint import load_tokenizer
from natural_video_llm.inference.engine import MAX_CONTEXT_TOKENS, MAX_REPLY_TOKENS, Conversation
from natural_video_llm.models.chat_format import ChatFormat, TimedTokens
from natural_video_llm.models.face import Face
from natural_video_llm.models.fusion_transformer import FusionConfig, NaturalVideoLLM
from natural_video_llm.sessions.clock import SessionClock

LATENT_SIZE = 20
MESSAGE = "Tell me something."
# Its characters beyond ASCII are several tokens each; a mark that the tokenizer knows stands in the midst of it.
RECITED = "Hello 再见<|im_start|> and 😀 take care!"
SHOWN = RECITED.replace("<|im_start|>", "")


class SteppingClock(SessionClock):
    """A tenth of a second further at each look, so that two runs see the same times."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def now_s(self) -> float:
        self.steps += 1
        return 2.0 + self.steps / 10


@pytest.fixture(scope="module")
def tokenizer(llm_dir: str) -> PreTrainedTokenizerBase:
    return load_tokenizer(llm_dir)


@pytest.fixture(scope="module")
def llama(tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes)).eval()


@pytest.fixture
def model(llama: LlamaForCausalLM) -> Iterator[NaturalVideoLLM]:
    model = adapted(llama)
    yield model
    model.detach()


@pytest.fixture(scope="module")
def reciter(tokenizer: PreTrainedTokenizerBase) -> NaturalVideoLLM:
    """A tiny LLM that has learned one reply to one message by heart, under an adapter whose gates are shut."""
    chat = ChatFormat(tokenizer)
    before, after = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (MESSAGE, RECITED))
    told = chat.conversation([("user", TimedTokens(before, [0.0] * len(before)))]).ids
    ids = torch.tensor([told + chat.turn("assistant", TimedTokens(after, [0.0] * len(after))).ids])
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    llm = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes))
    optimiser = torch.optim.Adam(llm.parameters(), lr=1e-2)
    for _ in range(40):
        optimiser.zero_grad()
        llm(ids, labels=ids).loss.backward()
        optimiser.step()
    return adapted(llm.eval(), gate=0.0)


def adapted(llm: LlamaForCausalLM | GPT2LMHeadModel, gate: float = 0.8) -> NaturalVideoLLM:
    config = FusionConfig("tiny", "0" * 64, "face-geometry", "1" * 64, LATENT_SIZE, (1,), face_size=24, components=6)
    torch.manual_seed(1)
    model = NaturalVideoLLM(llm, config).eval()
    model.temporal_encoder.basis.fit(torch.randn(200, LATENT_SIZE))
    for block in model.blocks.values():
        torch.nn.init.constant_(block.gate, gate)
    return model


def watching(clock: SessionClock) -> Callable[[], tuple[float, Face]]:
    """A face of made-up numbers over the last seconds."""
    latents = torch.randn(1, 60, LATENT_SIZE, generator=torch.Generator().manual_seed(2)).half()
    times = torch.arange(60, dtype=torch.float64)[None] / 5

    def look() -> tuple[float, Face]:
        now_s = clock.now_s()
        return now_s, Face(latents, times, times <= now_s)

    return look


def start(
    model: NaturalVideoLLM, tokenizer: PreTrainedTokenizerBase, temperature: float = 1.0, seed: int = 0
) -> tuple[Conversation, Callable[[], tuple[float, Face]]]:
    clock = SteppingClock()
    generator = torch.Generator().manual_seed(seed)
    return Conversation(model, tokenizer, clock, temperature, generator), watching(clock)


def prompts_of(model: NaturalVideoLLM) -> list[list[int]]:
    """Filled with the tokens of every prompt that the LLM is given from now on."""
    prompts: list[list[int]] = []

    def note(_: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        if kwargs["past_key_values"] is None:
            prompts.append(kwargs["input_ids"][0].tolist())

    model.llm.register_forward_pre_hook(note, with_kwargs=True)
    return prompts


def history(conversation: Conversation, tokenizer: PreTrainedTokenizerBase) -> list[tuple[str, str]]:
    return [(role, str(tokenizer.decode(words.ids))) for role, words in conversation.turns]


def test_pieces_join_to_the_reply(reciter: NaturalVideoLLM, tokenizer: PreTrainedTokenizerBase) -> None:
    conversation, look = start(reciter, tokenizer, temperature=0.0)
    pieces = [piece for piece, _ in conversation.reply(MESSAGE, (1.0, 2.0), look)]
    assert "".join(pieces) == SHOWN
    assert "" in pieces[:-1], "no half of a character is shown"
    assert history(conversation, tokenizer) == [("user", MESSAGE), ("assistant", SHOWN)]


def test_history_holds_what_was_shown_wherever_it_was_interrupted(
    reciter: NaturalVideoLLM, tokenizer: PreTrainedTokenizerBase
) -> None:
    tokens = len(tokenizer(RECITED, add_special_tokens=False)["input_ids"])
    lengths = set()
    for heard in range(1, tokens + 1):
        conversation, look = start(reciter, tokenizer, temperature=0.0)
        reply = conversation.reply(MESSAGE, (1.0, 2.0), look)
        shown = "".join(next(reply)[0] for _ in range(heard))
        reply.close()
        assert history(conversation, tokenizer) == [("user", MESSAGE), ("assistant", shown)]
        lengths.add(len(shown))
    assert max(lengths) == len(SHOWN)
    conversation, look = start(reciter, tokenizer)
    conversation.reply(MESSAGE, (1.0, 2.0), look).close()
    assert not conversation.turns, "nothing was asked yet"


def test_an_error_in_the_camera_keeps_what_was_shown(
    reciter: NaturalVideoLLM, tokenizer: PreTrainedTokenizerBase
) -> None:
    conversation, camera = start(reciter, tokenizer, temperature=0.0)
    looks = 0

    def look() -> tuple[float, Face]:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise OSError("unplugged")
        return camera()

    reply = conversation.reply(MESSAGE, (1.0, 2.0), look)
    shown = next(reply)[0] + next(reply)[0]
    with pytest.raises(OSError, match="unplugged"):
        next(reply)
    assert shown
    assert history(conversation, tokenizer)[1:] == [("assistant", shown)]


def test_the_oldest_turns_fall_out_and_the_prompt_stays_within_its_bound(
    model: NaturalVideoLLM, tokenizer: PreTrainedTokenizerBase
) -> None:
    conversation, look = start(model, tokenizer)
    prompts = prompts_of(model)
    opening = tokenizer("<|im_start|>user\n", add_special_tokens=False)["input_ids"]
    for number in range(12):
        message = f"{number} " + "and then I went on to tell the story " * (8 + number)
        reply = conversation.reply(message.strip(), (1.0, 2.0), look)
        for _ in range(3):
            next(reply)
        reply.close()
        assert prompts[-1][: len(opening)] == opening, "it starts with a whole turn of the user's"
        asked = str(tokenizer.decode(prompts[-1]))
        assert asked.endswith(f"{message.strip()}<|im_end|>\n<|im_start|>assistant\n")
    lengths = [len(prompt) for prompt in prompts]
    assert max(lengths) <= MAX_CONTEXT_TOKENS
    assert min(lengths[-3:]) > MAX_CONTEXT_TOKENS / 2, "no more falls out than must"
    assert not history(conversation, tokenizer)[0][1].startswith("0 ")


@pytest.mark.parametrize("words", range(1012, 1018))
def test_a_prompt_is_never_cut_within_a_turn(
    model: NaturalVideoLLM, tokenizer: PreTrainedTokenizerBase, words: int
) -> None:
    conversation, look = start(model, tokenizer)
    prompts = prompts_of(model)
    next(conversation.reply(" so" * words, (1.0, 2.0), look))
    assert len(prompts[0]) <= MAX_CONTEXT_TOKENS
    asked = str(tokenizer.decode(prompts[0]))
    assert asked.startswith("<|im_start|>user\n so so")
    assert asked.endswith(" so so<|im_end|>\n<|im_start|>assistant\n")
    marks = ChatFormat(tokenizer).marks
    around = len(marks["user"].before + marks["user"].after + marks["assistant"].before)
    assert len(prompts[0]) == min(words + around, MAX_CONTEXT_TOKENS)


def test_an_llm_with_few_positions_is_not_overrun(tokenizer: PreTrainedTokenizerBase) -> None:
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=24, n_layer=2, n_head=2, n_positions=128)
    torch.manual_seed(0)
    model = adapted(GPT2LMHeadModel(config).eval())
    prompts = prompts_of(model)
    conversation, look = start(model, tokenizer)
    for _ in range(2):
        for _ in conversation.reply("This and that, and so on and on. " * 4, (1.0, 2.0), look):
            pass
    assert len(prompts) == 2
    assert max(map(len, prompts)) <= 128 - MAX_REPLY_TOKENS


def test_the_same_seed_gives_the_same_reply(model: NaturalVideoLLM, tokenizer: PreTrainedTokenizerBase) -> None:
    def said(seed: int) -> list[tuple[str, float]]:
        conversation, look = start(model, tokenizer, seed=seed)
        return list(conversation.reply(MESSAGE, (1.0, 2.0), look))

    first = said(3)
    assert said(3) == first
    assert said(4) != first
    assert 0 < len(first) <= MAX_REPLY_TOKENS
    assert all(moved_bits > 0 for _, moved_bits in first)


def test_a_message_has_the_times_at_which_it_was_typed(
    model: NaturalVideoLLM, tokenizer: PreTrainedTokenizerBase
) -> None:
    conversation, look = start(model, tokenizer)
    for message in ("Yes", "One two three four five."):
        next(conversation.reply(message, (1.0, 2.0), look))
        times = next(words.times for role, words in reversed(conversation.turns) if role == "user")
        assert times[-1] == pytest.approx(2.0), "the last token is there when the message is sent"
        assert times == sorted(times)
        assert times[0] > 1.0


def test_nothing_said_is_no_turn(model: NaturalVideoLLM, tokenizer: PreTrainedTokenizerBase) -> None:
    conversation, look = start(model, tokenizer)
    assert list(conversation.reply("", (1.0, 2.0), look)) == []
    assert not conversation.turns
