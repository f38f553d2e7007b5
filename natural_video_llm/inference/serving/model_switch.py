"""Another run for new conversations, while those that go on keep theirs."""

import asyncio
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from natural_video_llm.inference.conversation import Sampling
from natural_video_llm.inference.engine import Engine
from natural_video_llm.inference.serving.house import House
from natural_video_llm.inference.serving.registry import Registry


def warm_up(engine: Engine) -> None:
    """The first pass through a model costs several of those that follow; nobody should wait for it."""
    with closing(engine.open(sampling=Sampling(max_tokens=3))) as conversation:
        for _ in conversation.reply("Hello"):
            pass


class ModelSwitch:
    """Loads runs beside the one that the server was started with.

    Args:
        registry: of the running server.
        load: the engine of a run folder.
    """

    def __init__(self, registry: Callable[[], Registry], load: Callable[[Path], Engine]):
        self._registry, self._load = registry, load
        self._first: House | None = None
        self._lock = asyncio.Lock()
        self.run: str | None = None

    @property
    def model(self) -> str:
        """The name of what new conversations get."""
        return self._registry().house.model

    @property
    def first_model(self) -> str:
        """The name of what the server was started with."""
        return (self._first or self._registry().house).model

    async def to(self, run: Path | None) -> None:
        """Give new conversations the engine of a run; None is the one that the server was started with.

        Raises:
            UserError: no trained model is there, or it is built on something that cannot be had.
        """
        async with self._lock:
            registry = self._registry()
            self._first = self._first or registry.house
            name = None if run is None else run.name
            if name == self.run:
                return
            if run is None:
                await registry.move(self._first)
            else:
                engine = await asyncio.to_thread(self._load_warm, run)
                made = int(run.stat().st_mtime)
                await registry.move(replace(self._first, engine=engine, model=run.name, made_s=made))
            self.run = name

    def _load_warm(self, run: Path) -> Engine:
        engine = self._load(run)
        warm_up(engine)
        return engine
