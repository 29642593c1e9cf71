"""When a request without a useful answer is repeated, and when that ends."""

from __future__ import annotations

import logging
import random
import time
from math import inf

from headway.client import answers
from headway.client.errors import HeadwayError, QueueFull, TaskClosed, TimedOut, Unavailable
from headway.client.exchange import Pause, Response, Road

log = logging.getLogger("headway.client")

# Seconds before a request without an answer is repeated: doubled each time, and up to half as much
# more at random. A crowd that a restart has cut off comes back spread by that.
AGAIN_S = 1.0
AGAIN_MOST_S = 8.0
# Up to this part of a Retry-After is added at random.
JITTER = 0.1


class Patience:
    """The patience of one request: ``seconds`` from its first failure, and until ``deadline``."""

    def __init__(self, seconds: float, deadline: float) -> None:
        self._seconds = seconds
        # Of time.monotonic.
        self._deadline = deadline
        self._until = inf
        self._tries = 0

    def pause(self, fault: str, response: Response | None = None) -> Road[None]:
        """Pause before the next try. Raises Unavailable, QueueFull or TaskClosed, at the deadline TimedOut.

        ``response``: the answer, None if there was none.
        """
        pause_s = self._pause_s(response)
        now = time.monotonic()
        if not self._tries:
            self._until = now + self._seconds
        if now + pause_s > self._deadline and self._deadline <= self._until:
            yield Pause(max(self._deadline - now, 0.0))
            raise TimedOut(f"no useful answer within the timeout: {fault}")
        if now + pause_s > self._until:
            raise self._given_up(fault, response)
        if not self._tries:
            log.warning("%s: trying again for %g s", fault, self._seconds)
        self._tries += 1
        yield Pause(pause_s)

    def _pause_s(self, response: Response | None) -> float:
        told_s = None if response is None else answers.told_s(response)
        if not told_s:
            # A proxy may say 0, and would be asked without a pause.
            return min(AGAIN_S * 2.0**self._tries, AGAIN_MOST_S) * random.uniform(1, 1.5)  # noqa: S311
        return told_s * random.uniform(1, 1 + JITTER)  # noqa: S311

    def _given_up(self, fault: str, response: Response | None) -> HeadwayError:
        reason = "" if response is None else answers.reason_of(response)
        if reason == "task-closed":
            return TaskClosed(f"the task is closed, and patience={self._seconds:g} allows no further try: {fault}")
        if reason == "queue-full":
            return QueueFull(f"the queue is full, and patience={self._seconds:g} allows no further try: {fault}")
        error = Unavailable(f"no useful answer, and patience={self._seconds:g} allows no further try: {fault}")
        error.code = None if response is None else response.code
        return error
