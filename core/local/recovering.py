"""TODO."""

from __future__ import annotations

import time
from typing import NoReturn

from headway.core.board.board import Board
from headway.core.config import Config
from headway.core.errors import RecoveringError
from headway.core.ids import Ids
from headway.core.retry_after.pace import Pace

# Seconds after which a client may ask whether the engine is there.
RETRY_S = 1.0


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
