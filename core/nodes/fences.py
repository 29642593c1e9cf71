"""Ends of attempts that were dropped, because the job was no longer this node's: counted, and logged."""

from __future__ import annotations

import logging
import time
from math import inf

from headway.core.ids import Ids
from headway.core.store.steps import Finish

log = logging.getLogger(__name__)

# Lines about dropped ends in so many seconds, at most. All are counted.
FENCED_LINES, FENCED_S = 10, 10.0
# Why the end of an attempt was dropped, as a rule.
FENCED = "the job was cancelled, or given to another node"


class Fences:
    """The ends that were dropped. ``count`` is of all of them."""

    def __init__(self) -> None:
        self.count = 0
        # Lines that were logged since then, of time.monotonic.
        self._lines, self._since = 0, -inf

    def add(self, finish: Finish, ids: Ids, why: str = FENCED) -> None:
        """Count a dropped end, of a job with one of ``ids``. Log FENCED_LINES of them in FENCED_S at most."""
        self.count += 1
        now = time.monotonic()
        if now - self._since > FENCED_S:
            self._since, self._lines = now, 0
        self._lines += 1
        if self._lines <= FENCED_LINES:
            job = ids.write(finish.sequence, ids.tag(finish.sequence)).decode()
            log.warning("job %s: the outcome of attempt %d was dropped: %s", job, finish.attempt, why)
            if self._lines == FENCED_LINES:
                log.warning("engine: further outcomes that are dropped are not logged for %.0f s", FENCED_S)
