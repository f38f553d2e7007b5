"""What the sessions of one server share."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from natural_video_llm.inference.engine import Engine
from natural_video_llm.inference.serving.limits import Limits
from natural_video_llm.inference.serving.metrics import Metrics


@dataclass(frozen=True)
class House:
    """What the sessions of one server share.

    Args:
        engine: of the run.
        model: the run's name.
        made_s: when the run was made, in seconds since 1970.
        limits: of the server.
        replies: threads in which replies are written, one for each session.
        pictures: threads in which pictures are decoded.
        metrics: counted into.
        record_folder: where live sessions may be recorded; None for nowhere.
    """

    engine: Engine
    model: str
    made_s: int
    limits: Limits
    replies: ThreadPoolExecutor
    pictures: ThreadPoolExecutor
    metrics: Metrics
    record_folder: Path | None = None
