"""The text of one conversation: its turns, what of them the LLM holds already, and what falls out when it is full."""

from collections.abc import Callable, Sequence
from itertools import accumulate

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from natural_video_llm.models.chat_format import ChatFormat, TimedTokens
from natural_video_llm.models.decoder import Decoder
from natural_video_llm.models.face import SeenFace

# A key's time as the browser and as the server has it, and the time of a reply's last token and of its end, differ.
_SAME_TIME_S = 0.2
_CHUNK = 32  # tokens read at once, so that other conversations get their turn between


class TextMemory:
    """Reads the prompt into the decoder piece by piece; what it has read before is never read again.

    The oldest exchanges fall out once there is no room, at a quarter of the room each time. What stays first in the
    cache, the opening marks of the first turn, is the attention sink (StreamingLLM, Xiao et al. 2024).

    Args:
        limit: tokens of context.
        seen: gives the face as it is seen between two times.
    """

    def __init__(self, decoder: Decoder, chat: ChatFormat, limit: int, seen: Callable[[float, float], SeenFace]):
        self._decoder, self._chat, self._limit, self._seen = decoder, chat, limit, seen
        self.turns: list[tuple[str, TimedTokens]] = []
        self._read: list[tuple[int, float]] = []  # (token, query time) for each token that the decoder holds

    def with_draft(self, words: TimedTokens) -> TimedTokens:
        """The prompt as it will be if `words` are sent."""
        return self._chat.conversation([*self.turns, ("user", words)])

    def prompt(self) -> TimedTokens:
        return self._chat.conversation(self.turns)

    def fits(self, prompt: TimedTokens, reply_tokens: int) -> bool:
        return len(prompt.ids) + self._opening_length + reply_tokens <= self._limit

    def make_room(self, reply_tokens: int) -> None:
        """Let the oldest exchanges go until a reply of that many tokens fits; of a message that alone is too long,
        its beginning."""
        room = self._limit - reply_tokens - self._opening_length
        lengths = [len(self._chat.turn(*turn).ids) for turn in self.turns]
        total = len(self._chat.start_ids) + sum(lengths)
        if total <= room:
            return
        users = [i for i, (role, _) in enumerate(self.turns) if role == "user"]
        first = next((i for i in users if total - sum(lengths[:i]) <= 0.75 * room), users[-1])
        self._forget(sum(lengths[:first]))
        del self.turns[:first]
        excess = total - sum(lengths[:first]) - room
        if excess > 0 and len(self.turns) == 1:
            role, words = self.turns[0]
            self.turns[0] = role, TimedTokens(words.ids[excess:], words.times[excess:])

    def read_some(self, prompt: TimedTokens, settled: int) -> bool:
        """Read the next few tokens of `prompt`, the last of it left out: when the next one comes is not known yet.

        Args:
            settled: tokens of the prompt that stand in turns which are over; only of later ones the times count.

        Returns whether there is more to read.
        """
        queries = prompt.times[1:]
        done = self._keep_common(prompt.ids[:-1], queries, settled)
        end = min(done + _CHUNK, len(queries))
        if done < end:
            self._feed(prompt.ids[done:end], queries[done:end])
        return end < len(queries)

    def begin_reply(self, prompt: TimedTokens, settled: int, now_s: float) -> Tensor:
        """Read what is left of `prompt` and the opening of a reply; log-probabilities of its first token."""
        opening = self._chat.opening("assistant", now_s)
        ids, queries = prompt.ids + opening.ids, [*prompt.times[1:], *opening.times, now_s]
        done = self._keep_common(ids[:-1], queries[:-1], settled)
        return self._feed(ids[done:], queries[done:])

    def next(self, token: int, now_s: float) -> Tensor:
        """Read a token of the reply; log-probabilities of the one after it."""
        return self._feed([token], [now_s])

    def length_of_turns(self) -> int:
        return len(self.prompt().ids) if self.turns else len(self._chat.start_ids)

    def before_last(self) -> int:
        """Tokens before the last turn."""
        before = self.turns[:-1]
        return len(self._chat.conversation(before).ids) if before else len(self._chat.start_ids)

    @property
    def length(self) -> int:
        """Tokens that the decoder holds."""
        return len(self._read)

    @property
    def _opening_length(self) -> int:
        return len(self._chat.marks["assistant"].before)

    def _feed(self, ids: list[int], queries: list[float]) -> Tensor:
        log_probs = self._decoder.feed(ids, queries, self._seen(min(queries), max(queries)))
        self._read += zip(ids, queries, strict=True)
        return log_probs

    def _keep_common(self, ids: list[int], queries: list[float], settled: int) -> int:
        """Cut what was read back to what it shares with the prompt; how much that is."""
        common = 0
        for (token, query_s), wanted, wanted_s in zip(self._read, ids, queries, strict=False):
            if token != wanted or (common >= settled and abs(query_s - wanted_s) > _SAME_TIME_S):
                break
            common += 1
        self._decoder.cut(common)
        del self._read[min(common, self._decoder.length) :]
        return len(self._read)

    def _forget(self, tokens: int) -> None:
        """Drop that many tokens behind the first turn's opening marks, which then open the first turn that stays."""
        first = len(self._chat.start_ids) + len(self._chat.marks["user"].before)
        if len(self._read) <= first or not tokens:
            return
        last = min(first + tokens, len(self._read))
        self._decoder.drop(first, last)
        del self._read[first:last]
        del self._read[self._decoder.length :]


def timed_words(tokenizer: PreTrainedTokenizerBase, text: str, char_times: Sequence[float]) -> TimedTokens:
    """The tokens of `text`, each with the time of its latest character; times never fall: a token that was corrected
    later makes those behind it as late. Marks of the chat format are words like any others."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True)
    spans = encoded["offset_mapping"]
    times = [max(char_times[start : max(end, start + 1)], default=char_times[-1]) for start, end in spans]
    return TimedTokens(list(encoded["input_ids"]), list(accumulate(times, max)))


class TextPieces:
    """Token after token as the text that each one adds."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._text = ""

    def add(self, token_id: int) -> str:
        self._ids.append(token_id)
        whole = str(self._tokenizer.decode(self._ids, skip_special_tokens=True))
        # A character of several tokens decodes to U+FFFD until its last one is there.
        piece = "" if whole.endswith("\ufffd") else whole[len(self._text) :]
        self._text = whole if piece else self._text
        return piece
