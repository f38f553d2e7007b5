"""Which of two replies a face speaks for, moment by moment of a clip: for people of whom there is no conversation."""

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from natural_video_llm.evaluation.evidence import Scorer
from natural_video_llm.models.chat_format import ChatFormat, TimedTokens
from natural_video_llm.models.fusion_transformer import NaturalVideoLLM
from natural_video_llm.sessions.latents import Latents
from natural_video_llm.training.dataset import Example, FaceTrack, no_face, turn_target

# As quick as sample speakers: the message is typed in three seconds, the reply is there a second after it begins.
_TYPED_S, _PAUSE_S, _REPLY_S = 2.6, 0.35, 0.8


def reply_odds(
    model: NaturalVideoLLM,
    tokenizer: PreTrainedTokenizerBase,
    clip: Latents,
    choices: Sequence[tuple[str, str, str]],
    moments_s: np.ndarray,
) -> np.ndarray:
    """[moments, choices] bits by which the face up to each moment favours the first of two replies over the second.

    What the text alone says is subtracted, so 0 means that the face says nothing.

    Args:
        clip: a face; its first seconds are taken for the person's neutral until more is seen.
        choices: message and two replies.
        moments_s: on the clip's clock, when a reply begins; nothing later is shown.
    """
    track = FaceTrack.of(clip, model.config.neutral_memory_s)
    chat = ChatFormat(tokenizer)
    posed = [_posed(message, reply, tokenizer, chat, track) for message, *replies in choices for reply in replies]
    scorer = Scorer(model, tokenizer.pad_token_id or 0)
    alone = scorer(posed, [no_face(e) for e in posed]).sums
    odds = []
    for moment_s in moments_s:
        seen = track.between(-np.inf, moment_s).later(-moment_s)
        moved = scorer(posed, [seen] * len(posed)).sums - alone
        odds.append(moved[0::2] - moved[1::2])
    return np.array(odds)


def _posed(message: str, reply: str, tokenizer: PreTrainedTokenizerBase, chat: ChatFormat, track: FaceTrack) -> Example:
    """A message and its reply, which begins at 0 s."""

    def timed(text: str, first_s: float, last_s: float) -> TimedTokens:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return TimedTokens(ids, np.linspace(first_s, last_s, len(ids)).tolist())

    words = timed(reply, 0.0, _REPLY_S)
    tokens = chat.conversation([("user", timed(message, -_PAUSE_S - _TYPED_S, -_PAUSE_S)), ("assistant", words)])
    last = turn_target(chat, "assistant", len(words.ids), ends=True)
    target = np.append(np.zeros(len(tokens.ids) - len(last), bool), last)
    return Example("", "", message, reply, np.array(tokens.ids), np.array(tokens.times), target, track)
