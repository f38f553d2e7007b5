"""A reply on its way to a client and into a recording."""

import secrets
from dataclasses import dataclass, field

from natural_video_llm.inference.conversation import Piece
from natural_video_llm.inference.serving.events import TextDelta
from natural_video_llm.inference.serving.recording import LiveRecording
from natural_video_llm.sessions.events import MODEL_SPEAKER


def _new_id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(8)}"


@dataclass
class ReplyInHand:
    """What a client was sent of a reply that is being written; pieces without text are left out.

    `recording` is the one that ran when it began; in no other is it kept, which would lack what it answers.
    """

    recording: LiveRecording | None
    id: str = field(default_factory=lambda: _new_id("resp"))
    item_id: str = field(default_factory=lambda: _new_id("item"))
    pieces: list[Piece] = field(default_factory=list)
    cancelled: bool = False

    def take(self, piece: Piece) -> TextDelta:
        """Add what is sent now."""
        self.pieces.append(piece)
        return TextDelta(
            response_id=self.id,
            item_id=self.item_id,
            delta=piece.text,
            moved_bits=round(piece.moved_bits, 5),
            time_s=round(piece.time_s, 6),
        )

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    def record(self) -> None:
        """Keep what was sent so far, each character with the time of its piece; once."""
        recording, self.recording = self.recording, None
        if recording is not None:
            times = [piece.time_s for piece in self.pieces for _ in piece.text]
            recording.text(MODEL_SPEAKER, self.text, times, "generated")
