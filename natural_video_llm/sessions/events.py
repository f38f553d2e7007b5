"""The lines of `session.jsonl`: one event each, told apart by the field `event`.

Times are seconds since session start on the monotonic clock. Fields that this version does not know are kept
as they are, so that an older tool never strips what a newer one wrote.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

SCHEMA_VERSION = 1

# Who is filmed, where nobody gave a name, and who answers where a model does.
DEFAULT_SPEAKER = "speaker"
MODEL_SPEAKER = "model"


class _Event(BaseModel):
    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class SessionStart(_Event):
    """First line. Ties the session's clock to the wall clock and says who is filmed and on whose word.

    `monotonic_s` is the machine's monotonic clock at time 0: a second process on the same machine subtracts
    it from its own reading and so shares the clock. It is None where no clock was running (imported and
    generated sessions). `person` names who is filmed across sessions, where one person has several; without
    it each session counts as another person. `split` is set where the data comes with its own division: such
    sessions train and test as marked. `boot_id` tells one run of the machine from the next: `monotonic_s` means
    nothing in another one. `recorded` lists what the consent covers.
    """

    event: Literal["session_start"] = "session_start"
    schema_version: int = SCHEMA_VERSION
    session_id: str
    started_utc: str
    monotonic_s: float | None = None
    boot_id: str | None = None
    filmed_speaker: str
    person: str | None = None
    consent: str
    recorded: list[str] | None = None
    split: Literal["train", "test"] | None = None


class VideoSegmentStart(_Event):
    event: Literal["video_segment_start"] = "video_segment_start"
    t: float
    file: str


class VideoSegmentEnd(_Event):
    """The segment is whole: only files named by such an event are read.

    `dropped` frames came from the camera and were not kept. `recovered` segments were cut short when their
    recorder was killed, and hold the frames that had reached the disk.
    """

    event: Literal["video_segment_end"] = "video_segment_end"
    t: float
    file: str
    frames: int
    dropped: int = 0
    recovered: bool | None = None


class VideoGap(_Event):
    """The camera was away from `t` (its last frame) to `t_end` (its next one, or the end of the recording)."""

    event: Literal["video_gap"] = "video_gap"
    t: float
    t_end: float
    reason: str


class Text(_Event):
    """What somebody typed, said or was shown.

    `char_times[i]` is when character i appeared; None where only words or the whole utterance could be timed.
    `word_times` holds (start of the word in the text, end, t_start, t_end) for `timing == "word"`.
    All of them lie between `t_start` and `t_end`.

    `edits` are the keystrokes behind the final text, in order: (time, position in the text as it was then,
    characters removed there, text put in their place). `how` the text came about, None where nobody knows.
    """

    event: Literal["text"] = "text"
    speaker: str
    text: str
    t_start: float
    t_end: float
    timing: Literal["char", "word", "utterance"]
    char_times: list[float] | None = None
    word_times: list[tuple[int, int, float, float]] | None = None
    edits: list[tuple[float, int, int, str]] | None = None
    how: Literal["typed", "pasted", "dictated", "generated"] | None = None

    @model_validator(mode="after")
    def _times_fit_the_text(self) -> "Text":
        if self.t_end < self.t_start:
            raise ValueError("t_end lies before t_start")
        if self.timing == "char" and (self.char_times is None or len(self.char_times) != len(self.text)):
            raise ValueError("timing 'char' needs one time for each character of the text")
        if self.timing == "word" and not self.word_times:
            raise ValueError("timing 'word' needs word_times")
        words = self.word_times or []
        if any(not 0 <= start < end <= len(self.text) or late < early for start, end, early, late in words):
            raise ValueError("a word lies outside the text or ends before it starts")
        times = [*(self.char_times or []), *(time for word in words for time in word[2:])]
        if any(not self.t_start <= time <= self.t_end for time in times):
            raise ValueError("a character or word has a time outside t_start to t_end")
        return self


class SessionEnd(_Event):
    """A recorder stopped in good order. Where several record into one session, the last such event counts."""

    event: Literal["session_end"] = "session_end"
    t: float


Event = Annotated[
    SessionStart | VideoSegmentStart | VideoSegmentEnd | VideoGap | Text | SessionEnd, Field(discriminator="event")
]
EVENT_ADAPTER: TypeAdapter[Event] = TypeAdapter(Event)
