"""The journal's clock: seconds that go on by themselves, at any setting of the machine's clock.

While a server runs, and from server to server until the machine is started anew, it is
time.monotonic and a constant, the *epoch*. The time of day counts only across a start of the
machine: by its change since the last commit, and never backwards. So the times of a journal are in
order, none lies in the future except by intent, and a retention of an hour is an hour. While the
machine is suspended the clock may stand still.

A new journal begins with the time of day, so people can read its times.
"""

from __future__ import annotations

import time
from pathlib import Path

from headway.core.journal.schema import Meta
from headway.core.wall import wall

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot(path: Path = BOOT_ID) -> str:
    """Return the id of this start of the machine, which is in ``path``, or an empty text if it is not known."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def epoch(meta: Meta, latest: float, this_boot: str) -> float:
    """Return the constant to add to time.monotonic.

    ``latest`` is the last time in the journal, ``this_boot`` the id of this start of the machine.
    """
    now = time.monotonic()
    if meta.boot and meta.boot == this_boot and now + meta.epoch >= latest:
        return meta.epoch
    return max(time.time() - meta.skew, latest) - now


def skew(of_epoch: float) -> float:
    """Return how far the time of day is ahead of the journal's clock."""
    return wall.read() - of_epoch
