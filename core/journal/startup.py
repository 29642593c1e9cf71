"""The journal as a start finds it: locked, opened and checked, read, and handed over to the writer."""

from __future__ import annotations

import logging
import secrets
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import apsw
from headway.core.errors import WAYS_OUT, JournalError
from headway.core.history import Minute
from headway.core.ids import SALT_BYTES, TOGETHER, Ids
from headway.core.job import State
from headway.core.journal import attempts, clock, schema, watermark
from headway.core.journal.database import File, one_line
from headway.core.journal.reader import (
    Ended,
    KeyRow,
    Saved,
    ended,
    holds,
    key_before,
    keys,
    latest,
    log_ends,
    minutes,
    places,
    salts,
    tally,
    unfinished,
    unsuccessful,
    waiting,
)
from headway.core.journal.schema import ServerRun
from headway.core.retention import DEFAULT, Retention
from headway.core.wall import wall

log = logging.getLogger(__name__)

# The rights of a file that its owner's group and all others have.
OF_OTHERS = 0o077


class Found:
    """The journal at ``path``, made if there is none. Raises JournalError if it is unusable."""

    def __init__(self, path: Path, sync: schema.Sync, retention: Retention = DEFAULT) -> None:
        self.path = path
        try:
            self.mark = watermark.Mark(watermark.beside(path))
        except OSError as error:
            raise JournalError(f"{path}: cannot be {_verb(path)}: {error.strerror}. {WAYS_OUT}") from None
        try:
            self._open(path, sync, retention)
        except BaseException:
            self.mark.close()
            raise

    def _open(self, path: Path, sync: schema.Sync, retention: Retention) -> None:
        marked = self.mark.read()
        if not path.exists():
            if marked is not None and marked.commits:
                raise JournalError(
                    f"{path}: is missing, and {watermark.beside(path)} says that it held {marked.commits} commits. "
                    "Put it back, or delete the mark too to begin anew"
                )
            marked = None
        try:
            if not path.exists():
                schema.create(path)
            # ``lost``: missing acknowledged commits. Only ``sync: normal`` makes them possible.
            self.connection, meta, self.lost = schema.open_checked(path, marked, sync)
            # Before there were outcomes, all were kept as long as successes mostly are.
            schema.migrate(self.connection, retention.seconds[State.SUCCEEDED])
            _warn_of_readers(path)
            if meta.copied:
                log.warning(
                    "%s: is a copy by headway journal backup: ids that were issued since it was made answer 410 or 421",
                    path,
                )
            # A sequence number that was never given, even if the file is an old copy. It shares its
            # digest of tags with no given one.
            first = max(meta.high + (0 if meta.clean else schema.SKIP), schema.numbers_by(time.time()))
            self.next_sequence = -(-(first + 1) // TOGETHER) * TOGETHER if first else 1
            # The number of the last change in the file.
            self.changes = meta.changes
            # Added to time.monotonic it gives the times in the journal.
            boot = clock.boot()
            self.epoch = clock.epoch(meta, latest(self.connection), boot)
            first, salt = self.next_sequence // TOGETHER * TOGETHER, secrets.token_bytes(SALT_BYTES)
            wall.keep(meta.skew + self.epoch)
            self.run = ServerRun(first, salt, boot, epoch=self.epoch, kept=retention.jobs, offset=wall.offset)
            self.ids = Ids(meta.secret, [*salts(self.connection), (first, salt)], since=first)
            # By State: the place of the job that ended last, and that up to which all were given up.
            self.last_place, self.given_up = places(self.connection)
            self.mark.begin(
                (marked or watermark.Marked(0, 0, 0, 0))._replace(journal=meta.journal, commits=meta.commits)
            )
            # From here on the file is ours to write to.
            self.file = File(path, self.mark, self.connection, sync=sync, high=self.next_sequence - 1, run=self.run)
            self.file.begin()
        except (apsw.Error, OSError) as error:
            raise JournalError(f"{path}: cannot be {_verb(path)}: {one_line(error)}. {WAYS_OUT}") from None

    @property
    def full(self) -> str:
        """Why the file could not be written to, for want of room; empty if it could."""
        return self.file.full

    @property
    def lock(self) -> int:
        """The descriptor that has the lock, for the writer to inherit."""
        return self.mark.file

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Refuse the journal if it cannot be read here. Raises JournalError."""
        with schema.reading(self.path):
            yield

    def ended(self, after: Sequence[int], now: float) -> Iterator[Ended]:
        """Return jobs after the place of their outcome, by State, that are still kept ``now``, in chunks.

        Times are of time.monotonic.
        """
        return ended(self.connection, after, now + self.epoch, self.epoch)

    def tally(self) -> dict[str, list[int]]:
        """Return, by task, its jobs that ever ended, by State."""
        return tally(self.connection)

    def unsuccessful(self) -> list[tuple[int, int, int]]:
        """Return (batch, failed, cancelled) of each batch with such jobs."""
        return unsuccessful(self.connection)

    def holds(self) -> list[tuple[str, str, str, float | None, str]]:
        """Return (task, dispatch, intake, until, reason) of each task whose switches were ever changed."""
        return holds(self.connection)

    def minutes(self) -> list[Minute]:
        """Return the minutes of the history, oldest first."""
        return minutes(self.connection)

    def unfinished(self) -> list[Saved]:
        """Return the jobs that have not finished, in the order of their numbers."""
        return unfinished(self.connection)

    def log_ends(self) -> dict[int, tuple[int, bool]]:
        """Return of each unfinished job that has logged the length of its log, and whether that ends a line."""
        return log_ends(self.connection)

    def waiting(self) -> int:
        """Return how many jobs have not finished."""
        return waiting(self.connection)

    def keyed(self, after: int, since: float) -> Iterator[list[KeyRow]]:
        """Return the idempotency keys first used since a time by jobs after number ``after``, oldest first."""
        return keys(self.connection, after, since + self.epoch)

    def key_before(self, most: int) -> int:
        """Return the number of the last job whose key is not among the last ``most`` keys; 0 if there is none."""
        return key_before(self.connection, most)

    def hand_over(self) -> int:
        """Leave the file to the writer, and keep the lock. Return the highest number ever given."""
        self.connection.close()
        self.mark.unmap()
        return self.next_sequence - 1

    def unlock(self) -> None:
        """Give up the lock of a file that was handed over."""
        self.mark.close()

    def close(self) -> None:
        """Close everything that was not handed over."""
        self.file.close()


def _warn_of_readers(path: Path) -> None:
    """Log one line if others of this machine can read a file of the journal. We make none like that."""
    files = [path, *(path.with_name(f"{path.name}{end}") for end in ("-wal", "-shm")), attempts.beside(path)]
    shown = [str(file) for file in files if file.exists() and file.stat().st_mode & OF_OTHERS]
    if shown:
        log.warning("others can read the jobs in the journal: chmod 600 %s", " ".join(map(shlex.quote, shown)))


def _verb(path: Path) -> str:
    return "opened" if path.exists() else "made"
