"""The mark: a small file beside the journal with the count of acknowledged commits, and its lock.

SQLite drops a damaged end of its write-ahead log without a word, and a lost log file as well: to it
they are commits that never finished. So the number of the last acknowledged commit is kept apart,
in five 64-bit words that are mapped into memory:

    magic | journal | commits acknowledged | commits when a checkpoint began | frames of the log then, 0 when it is over

One writer, the process that commits. A store is one aligned word of 24 ns, with no system call, and
the kernel keeps it through SIGKILL. It is written after the commit was synced and before anyone
hears of it. So every commit that it counts was committed, and a journal with fewer has lost some.
The mark is not synced itself. After a loss of power it may count less than was acknowledged (never
more), and then only a loss below its count is noticed. Each count bears 20 bits of CRC-32.

The lock is that of flock: it goes with the last descriptor of the file as it was opened here,
however the processes that have one end. So the server opens and locks the journal, gives the
descriptor to each writer that it starts, and nobody comes in between. A process that a task forks
closes its copy, or it would keep the journal.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from headway.core.errors import JournalError

MAGIC = int.from_bytes(b"hdwymark", sys.byteorder)
BYTES = 40
CHECK_BITS = 20
CHECK_MASK = (1 << CHECK_BITS) - 1
_MAGIC, _JOURNAL, _COMMITS, _BEGUN, _FRAMES = range(5)
# Seconds in which the processes of a killed server must be gone, and between two looks.
LOCK_S = 1.0
LOCK_LOOK_S = 0.01


# Descriptors of locks that this process has.
_locks: set[int] = set()


def _let_go() -> None:
    for file in _locks:
        os.close(file)
    _locks.clear()


os.register_at_fork(after_in_child=_let_go)


class Marked(NamedTuple):
    """The content of a mark."""

    # The number of its journal, as in ``meta``.
    journal: int
    # Commits that were acknowledged.
    commits: int
    # When the last checkpoint began: commits, and frames of the log. 0 frames once it was over.
    begun: int
    frames: int


def beside(path: Path) -> Path:
    """Return the path of the mark of the journal at ``path``."""
    return path.with_name(f"{path.name}-mark")


def sealed(count: int) -> int:
    """Return ``count`` with its check bits, one word."""
    return count << CHECK_BITS | crc32(count.to_bytes(8, "little")) & CHECK_MASK


def read(path: Path) -> Marked | None:
    """Return the content of the mark at ``path``, or None if there is none."""
    try:
        return _parse(path, path.read_bytes())
    except FileNotFoundError:
        return None


def _parse(path: Path, data: bytes) -> Marked | None:
    if not data:
        return None
    if len(data) != BYTES:
        raise _damaged(path, f"{len(data)} bytes long, not {BYTES}")
    words = memoryview(data).cast("Q")
    counts = [words[at] >> CHECK_BITS for at in (_COMMITS, _BEGUN, _FRAMES)]
    if words[_MAGIC] != MAGIC or words[_COMMITS:].tolist() != [sealed(count) for count in counts]:
        raise _damaged(path, "a checksum is wrong")
    return Marked(words[_JOURNAL], *counts)


def _damaged(path: Path, why: str) -> JournalError:
    """Return the refusal of a mark that cannot be read.

    Of a journal that was closed the file alone is whole, and says so, from before the mark was
    damaged. Another one is refused without its mark (see schema.missing_commits).
    """
    return JournalError(
        f"{path}: is damaged: {why}. Delete it and start again. Nothing is lost if the journal was closed and no older "
        "file is in its place, which nobody can check then. If it was not closed, the start says how to save it"
    )


# Seam: the writer of tests that stops itself does so after ``acknowledge``, ``checkpoint`` or ``sync``.
class Mark:
    """The mark of one journal, locked. Raises JournalError if another process has the lock, or OSError.

    With ``file``, a descriptor of it: another process has opened and locked it, and called
    ``begin``.
    """

    def __init__(self, path: Path, file: int = -1) -> None:
        self.path = path
        self.file = file
        self._map: mmap.mmap | None = None
        self._words: memoryview | None = None
        if file >= 0:
            self._map_words()
            return
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _locks.add(self.file)
        try:
            self._lock()
        except BaseException:
            self.close()
            raise

    def _lock(self) -> None:
        patience = time.monotonic() + LOCK_S
        while True:
            try:
                return fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > patience:
                    raise JournalError(f"{self.path}: another process has this journal open, only one may") from None
            time.sleep(LOCK_LOOK_S)

    def read(self) -> Marked | None:
        """Return its content, or None if it was never written."""
        return _parse(self.path, os.pread(self.file, BYTES + 1, 0))

    def begin(self, marked: Marked) -> None:
        """Write the mark anew and map it. From here on the other methods may be called."""
        words = (MAGIC, marked.journal, sealed(marked.commits), sealed(marked.begun), sealed(marked.frames))
        # Written, not only mapped: so the block exists and no later store can fail for want of
        # room.
        os.pwrite(self.file, b"".join(word.to_bytes(8, sys.byteorder) for word in words), 0)
        os.fsync(self.file)
        sync_folder(self.path)
        self._map_words()

    def _map_words(self) -> None:
        self._map = mmap.mmap(self.file, BYTES)
        self._words = memoryview(self._map).cast("Q")

    def unmap(self) -> None:
        """Keep the lock only: in a forked process the mapping would keep the lock."""
        if self._map is not None and self._words is not None:
            self._words.release()
            # The mapping has a descriptor of its own.
            self._map.close()
            self._map = self._words = None

    def acknowledge(self, commits: int) -> None:
        """Note that ``commits`` commits are durable, before anyone hears of it."""
        assert self._words is not None
        self._words[_COMMITS] = sealed(commits)

    def checkpoint(self, commits: int, frames: int) -> None:
        """Note that a log of ``frames`` frames is to be copied into the file; 0: that it is done.

        Sync this before the copying begins: until the copying is done, the file alone is not whole.
        """
        assert self._words is not None
        # In this order: between the two stores the mark has no checkpoint.
        self._words[_BEGUN] = sealed(commits)
        self._words[_FRAMES] = sealed(frames)

    def sync(self) -> None:
        """Bring the mark to the disk."""
        # The pages of the mapping are those of the file.
        os.fsync(self.file)

    def close(self) -> None:
        """Give up the lock, unless another process has it as well."""
        if self.file < 0:
            return
        self.unmap()
        _locks.discard(self.file)
        os.close(self.file)
        self.file = -1


def sync_folder(path: Path) -> None:
    """Make sure that the name ``path`` survives a loss of power."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
