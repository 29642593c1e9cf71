"""A writer of the journal whose file system is watched, slow or failing; see ``WriterLink.module``.

It says ``synced N…`` when the log that bears the payloads ``<N>`` is synced, before anyone can hear of it, and in the
end how many syncs there were. With WATCH_FAIL=sync or write, the 20th of those fails. With WATCH_ERRNO=EDQUOT, writes
to the log fail with that from the 20th on for a second. With WATCH_SLEEP each sync takes so many seconds more.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections import Counter
from typing import Any

import apsw
from headway.core.journal import writer

# Of a line that no other process can come in between.
NUMBERS_MOST = 300


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Watch:
    """What was seen of the log: numbers that were written and not synced yet, and what was done how often."""

    def __init__(self) -> None:
        self.fail = os.environ.get("WATCH_FAIL", "")
        self.errno = getattr(errno, os.environ.get("WATCH_ERRNO", "EIO"))
        # Until when writes fail with it, of time.monotonic.
        self.failing = 0.0
        self.sleep_s = float(os.environ.get("WATCH_SLEEP", "0"))
        self.seen = Counter[str]()
        self.written: list[str] = []

    def note(self, what: str) -> None:
        self.seen[what] += 1
        if self.fail == what and self.seen[what] == 20:
            raise apsw.IOError(f"no {what}")
        if what == "write" and self.errno != errno.EIO:
            if self.seen[what] == 20:
                self.failing = time.monotonic() + 1
            if time.monotonic() < self.failing:
                raise apsw.IOError("no room")

    def write(self, data: bytes) -> None:
        self.written += (number.decode() for number in re.findall(rb"<(\d+)>", data))

    def sync(self) -> None:
        time.sleep(self.sleep_s)
        for at in range(0, len(self.written), NUMBERS_MOST):
            say("synced", *self.written[at : at + NUMBERS_MOST])
        self.written.clear()


class File(apsw.VFSFile):
    """A file under watch if it is a log."""

    def __init__(self, watch: Watch, name: apsw.URIFilename | str | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self.watch = watch if flags[0] & apsw.SQLITE_OPEN_WAL else None

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        if self.watch:
            self.watch.note("write")
        super().xWrite(data, offset)
        if self.watch:
            self.watch.write(data)

    def xSync(self, flags: int) -> None:  # noqa: N802
        if self.watch:
            self.watch.note("sync")
        super().xSync(flags)
        if self.watch:
            self.watch.sync()


class FileSystem(apsw.VFS):
    """The file system of everything that is opened from here on."""

    def __init__(self, watch: Watch) -> None:
        super().__init__("watched", "unix", makedefault=True)
        self.watch = watch

    def xOpen(self, name: apsw.URIFilename | str | None, flags: list[int]) -> File:  # noqa: N802
        return File(self.watch, name, flags)

    def xGetLastError(self) -> tuple[int, str]:  # noqa: N802
        return self.watch.errno, ""


def main(**given: Any) -> None:
    """Write as the real one does."""
    watch = Watch()
    # It is there for as long as this name is.
    system = FileSystem(watch)
    writer.main(**given)
    say("syncs", watch.seen["sync"])
    system.unregister()


def early(lines: list[str]) -> list[str]:
    """Return the numbers that lines ``answered N…`` told before a line ``synced`` did."""
    synced: set[str] = set()
    found: list[str] = []
    for line in lines:
        what, *numbers = line.split()
        if what == "synced":
            synced.update(numbers)
        elif what == "answered":
            found += [number for number in numbers if number not in synced]
    return found
