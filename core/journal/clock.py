"""The journal's clock: seconds that go on by themselves, whatever the clock of the machine is set to.

While a server runs, and from server to server until the machine is started anew, it is time.monotonic and a constant,
the *epoch*. Only across a start of the machine the time of day counts: by how much it has moved since the last commit,
and never backwards. So the times of a journal are in order, none lies in the future but those that are meant to, and
what is kept for an hour is kept for an hour. Where the machine is suspended the clock may stand still.

A new journal begins with the time of day, so its times can be read by people.
"""

from __future__ import annotations

import time
from pathlib import Path

from headway.core.journal.schema import Meta

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot() -> str:
    """Return what tells this start of the machine from others; empty where that is not known."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def epoch(meta: Meta, latest: float) -> float:
    """Return what is to be added to time.monotonic; ``latest`` is the last time in the journal."""
    now = time.monotonic()
    if meta.boot and meta.boot == boot() and now + meta.epoch >= latest:
        return meta.epoch
    return max(time.time() - meta.skew, latest) - now


def skew(of_epoch: float) -> float:
    """Return by how much the time of day is ahead of the journal's clock."""
    return time.time() - time.monotonic() - of_epoch
