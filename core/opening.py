"""An engine with a journal takes a while to open; until then Recovering stands in for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from headway.core.board import Board
from headway.core.carried import Carried
from headway.core.config import Config
from headway.core.engine import Engine
from headway.core.errors import RecoveringError
from headway.core.ids import Ids
from headway.core.journal.journal import Journal
from headway.core.pace import Pace
from headway.core.tasks.registry import Registry

# Seconds after which a client may ask whether the engine is there.
RETRY_S = 1.0

log = logging.getLogger(__name__)


class Recovering:
    """The engine before it is there: it is not ready, and whatever else it is asked raises RecoveringError."""

    def __init__(self, config: Config) -> None:
        # All who come now come back: the clients of a server that ended wait for this one.
        self._pace = Pace(config.polling.share * config.polling.capacity)
        # Jobs read so far.
        self.read = 0
        # Nothing is found on it, and no id is one of it.
        self.board = Board(0, 0.0, 0)
        self.ids = Ids()

    @property
    def not_ready(self) -> str:
        """Why no jobs are wanted yet."""
        return f"recovering: {self.read} jobs read"

    def later(self) -> float:
        """Return seconds after which a client that could not be served now can be."""
        return self._pace.promise(time.monotonic(), RETRY_S)

    def promise(self, seconds: float) -> float:
        """Return in how many seconds, ``seconds`` or a little later, there is room for a request; and take it."""
        return self._pace.promise(time.monotonic(), seconds)

    def __getattr__(self, name: str) -> NoReturn:
        raise RecoveringError(self.later())


def open_engine(
    config: Config, registry: Registry, progress: Callable[[int], object], before: Carried | None = None
) -> Engine:
    """Open the engine that ``config`` describes; with a journal to be called outside of the event loop.

    Without one it goes on from ``before``, if there was an image of the program before this one. ``progress`` is told
    now and then how many jobs were read. Raises JournalError where the journal cannot be used.
    """
    if config.journal.path is None:
        return Engine(config, registry, before=before)
    # Whatever directory a task enters later.
    journal = Journal(Path(config.journal.path).absolute(), config.journal.sync)
    if journal.found.lost:
        log.error(
            "%s: the last %d acknowledged commits are missing, which journal.sync: normal allows when the power goes",
            journal.path,
            journal.found.lost,
        )
    try:
        engine = Engine(config, registry, journal)
        engine.restore(progress)
    except BaseException:
        journal.abandon()
        raise
    return engine
