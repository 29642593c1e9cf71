"""Looks at a server from outside, evenly: memory, descriptors, threads, and the lag of its loop."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.measure import descendants, rss_bytes
from tests.end_to_end.process import Server


@dataclass(frozen=True, slots=True)
class Sample:
    """A look at the server, ``at`` seconds after the begin."""

    at: float
    # Deploys before it.
    life: int
    # The fault that was under way, empty if there was none.
    fault: str
    rss_bytes: int
    # With worker processes and the writer of the journal.
    all_rss_bytes: int
    descriptors: int
    threads: int
    # Mean of the loop's lag since the sample before; None where the server did not say.
    lag_ms: float | None


class Sampler(threading.Thread):
    """Takes a sample each ``period_s`` until ``stop`` is set. ``present`` tells the life and the fault."""

    def __init__(self, server: Server, period_s: float, present: Callable[[], tuple[int, str]]) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.period_s = period_s
        self.present = present
        self.stop = threading.Event()
        self.samples: list[Sample] = []
        self.begun = time.monotonic()
        self._beats, self._late_s = 0.0, 0.0

    def run(self) -> None:
        """Take samples."""
        while not self.stop.wait(self.period_s):
            self.sample()

    def sample(self) -> Sample:
        """Take one."""
        pid = self.server.process.pid
        life, fault = self.present()
        lag_ms = self._lag_ms()
        found = Sample(
            at=time.monotonic() - self.begun,
            life=life,
            # One that has begun meanwhile is seen as well.
            fault=fault or self.present()[1],
            rss_bytes=rss_bytes([pid]),
            all_rss_bytes=rss_bytes(descendants(pid)),
            descriptors=len(os.listdir(f"/proc/{pid}/fd")),
            threads=len(list(Path(f"/proc/{pid}/task").iterdir())),
            lag_ms=lag_ms,
        )
        self.samples.append(found)
        return found

    def _lag_ms(self) -> float | None:
        """Return the mean lag since the last call."""
        try:
            said = self.server.get("/metrics").body.decode()
            late_s, beats = (
                float(re.findall(rf"^headway_loop_lag_seconds_{name} (\S+)", said, re.MULTILINE)[0])
                for name in ("sum", "count")
            )
        except (OSError, AssertionError, IndexError, ValueError):
            return None
        spent, turns = late_s - self._late_s, beats - self._beats
        self._late_s, self._beats = late_s, beats
        # A program that has just begun counts from 0.
        return 1000 * spent / turns if turns > 0 and spent >= 0 else None
