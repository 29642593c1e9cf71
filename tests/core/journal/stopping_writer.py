"""A writer of the journal that stops itself at a chosen point.

``STOP_AT=log-synced:12`` is the twelfth time it comes there. It is stopped and not ended: its files are then what a
kill at that point leaves, and who tests has all the time to copy them. See ``WriterLink.module``.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import apsw
from headway.core.journal import writer
from headway.core.journal.watermark import Mark

# In mid-statement; committed and not marked; in mid-checkpoint; copied and not marked; marked and not told.
POINTS = ("log-written", "log-synced", "file-written", "file-synced", "marked", "checkpoint-marked", "mark-synced")


class Countdown:
    """Stops this process when it comes to the chosen point for the chosen time."""

    def __init__(self, chosen: str) -> None:
        self.point, _, times = chosen.partition(":")
        self.left = int(times)

    def at(self, point: str) -> None:
        """We are at ``point``, which counts once the file STOP_FROM is there."""
        if point == self.point and os.path.exists(os.environ["STOP_FROM"]):
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGSTOP)


class File(apsw.VFSFile):
    """A file whose writes and syncs are points."""

    def __init__(self, countdown: Countdown, name: apsw.URIFilename | str | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self.countdown = countdown
        self.kind = "log" if flags[0] & apsw.SQLITE_OPEN_WAL else "file"

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        super().xWrite(data, offset)
        self.countdown.at(f"{self.kind}-written")

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        self.countdown.at(f"{self.kind}-synced")


class FileSystem(apsw.VFS):
    """The file system of everything that is opened from here on."""

    def __init__(self, countdown: Countdown) -> None:
        super().__init__("stopping", "unix", makedefault=True)
        self.countdown = countdown

    def xOpen(self, name: apsw.URIFilename | str | None, flags: list[int]) -> File:  # noqa: N802
        return File(self.countdown, name, flags)


def main(**given: Any) -> None:
    """Write as the real one does, and stop where it was chosen."""
    countdown = Countdown(os.environ["STOP_AT"])
    Mark.acknowledge = then(Mark.acknowledge, countdown, "marked")  # type: ignore[method-assign]
    Mark.checkpoint = then(Mark.checkpoint, countdown, "checkpoint-marked")  # type: ignore[method-assign]
    Mark.sync = then(Mark.sync, countdown, "mark-synced")  # type: ignore[method-assign]
    # It is there for as long as this name is.
    system = FileSystem(countdown)
    writer.main(**given)
    system.unregister()


def then(method: Any, countdown: Countdown, point: str) -> Any:
    """Return a method that does what ``method`` does and is then at ``point``."""

    def watched(self: Mark, *arguments: Any) -> None:
        method(self, *arguments)
        countdown.at(point)

    return watched
