"""A loop whose clock jumps to the next timer: what takes an hour takes no time, and comes at the very moment."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any
from unittest.mock import patch

# Of time.monotonic, when a test begins.
BEGIN_S = 1000.0
# The least that the clock goes on by when it waits, so that it never stands still.
TICK_S = 1e-9


class Jumping(selectors.SelectSelector):
    """Waits for nothing: where no file is ready its clock goes on by as much as was to be waited."""

    def __init__(self) -> None:
        super().__init__()
        self.now = BEGIN_S
        # How often it has waited for a timer.
        self.waits = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready."""
        # Without a timer it is a thread, or a process, that is waited for.
        ready = super().select(None if timeout is None else 0)
        if timeout and not ready:
            self.now += max(timeout, TICK_S)
            self.waits += 1
        return ready

    def read(self) -> float:
        """Return what time it is."""
        return self.now


class Loop(asyncio.SelectorEventLoop):
    """An event loop by the clock of ``jumping``."""

    def __init__(self) -> None:
        self.jumping = Jumping()
        super().__init__(self.jumping)

    def time(self) -> float:
        """Return what time it is."""
        return self.jumping.now


def run(test: Callable[[Jumping], Coroutine[Any, Any, None]]) -> None:
    """Run ``test``, which gets the clock; time.monotonic is read off it."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, Loop)
        with patch("time.monotonic", loop.jumping.read):
            runner.run(test(loop.jumping))
