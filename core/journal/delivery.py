"""The changes sent to a writer, kept until they are committed or refused; and one writer at a time.

**A writer may die** at any moment: it is killed, or memory is short. Another is started, and finds
in the file the number of the last change that was committed. The changes up to there are committed,
though perhaps nobody has heard of it yet. All later ones are not, and are sent again. So nothing is
lost and nothing done twice, and clients wait for a third of a second. The lock stays ours
meanwhile, since the server has its descriptor as well. Writers that die again and again end the
server.

**No room**: the writer has dropped the uncommitted changes. The requests of clients among them are
refused and answered at once. Facts, above all the ends of jobs, are sent again and committed once
there is room.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from headway.core.job import State
from headway.core.journal.messages import (
    Acknowledged,
    Append,
    Begin,
    Close,
    Expire,
    Expired,
    Fatal,
    FromWriter,
    NoRoom,
    Opened,
)
from headway.core.journal.notes import Note, is_recallable_note, wished
from headway.core.journal.schema import ServerRun, Sync
from headway.core.journal.statement import Change, is_recallable
from headway.core.journal.writer_link import WriterLink

# Writers that may die in a row, with nothing committed in between, and the seconds that this may
# take. Beyond both it is fatal.
DEATHS_MOST = 5
DYING_S = 10.0
# Seconds before another is started: none after the first death, then doubled each time, up to a
# bound.
AGAIN_S, AGAIN_MOST_S = 0.1, 1.0

log = logging.getLogger(__name__)


class Delivery:
    """The way to the file at ``path``, by a writer that it starts. Raises OSError if it cannot.

    ``changes`` is the number of the last change in the file.
    """

    def __init__(self, path: Path, sync: Sync, lock: int, run: ServerRun, changes: int) -> None:
        self._path = path
        self._sync: Sync = sync
        self._lock = lock
        self._run = run
        self.link = WriterLink(path, sync, lock)
        # Whether there is no room, and since when, of time.monotonic.
        self.full = False
        self._full_since = 0.0
        # The highest sequence number that was given.
        self.high = 0
        # Given up: jobs up to the place of their outcome, by State, and keys of jobs up to this number.
        self.places = [0] * len(State)
        self.key = 0
        # The number of the last change that was sent.
        self._sent = changes
        # (number of the last change, changes, notes) of each message that is not committed.
        self._unsettled: deque[tuple[int, list[Change], list[Note]]] = deque()
        self._era = 0
        # Whether the next writer finds a file that has begun.
        self._begun = False
        # Writers that have died since the last commit, and since when, of time.monotonic.
        self._deaths = 0
        self._dying_since = 0.0
        # Writers that were started after one had died.
        self.restarts = 0
        # Whether the writer has the file open, we are being closed, and we have failed.
        self._up = self._closing = self._failed = False

    def open(
        self,
        loop: asyncio.AbstractEventLoop,
        begun: bool,
        *,
        on_commit: Callable[[Acknowledged | Opened, int], object],
        on_full: Callable[[list[int | str]], object],
        on_expired: Callable[[int], object],
        on_fatal: Callable[[str], object],
    ) -> None:
        """Have the writer begin, or go on if the file has ``begun``. Changes sent earlier wait for it.

        ``on_commit`` gets the writer's message and the number up to which all changes are committed
        or refused. ``on_full`` gets the jobs, by number, and the tasks whose changes were refused.
        """
        self._loop, self._on_commit, self._on_full = loop, on_commit, on_full
        self._on_expired, self._on_fatal = on_expired, on_fatal
        self._ended = loop.create_future()
        self._begun = begun
        self._begin()

    def send(self, last: int, changes: list[Change], notes: list[Note]) -> None:
        """Send changes and notes, the last of which is number ``last``. Without room, refuse those that can be."""
        self._sent = last
        if self.full:
            refused: list[int | str] = [change[0] for change in changes if is_recallable(change)]
            refused += wished(notes)
            changes = [change for change in changes if not is_recallable(change)]
            notes = [note for note in notes if not is_recallable_note(note)]
            self._on_full(refused)
        if changes or notes:
            self._unsettled.append((last, changes, notes))
            if self._up:
                self._tell(last, changes, notes)

    def expire(self, kept_until: float, keys_before: float) -> None:
        """Have jobs deleted that are kept no longer than a time, and keys older than one, besides those given up."""
        if self._up:
            self.link.send(Expire(self.places, self.key, kept_until, keys_before))

    async def close(self) -> None:
        """Have the writer commit all that was sent, and end."""
        self._closing = True
        if self._up:
            self.link.send(Close())
        await self._ended

    def kill(self) -> None:
        """End a writer that was never asked to begin."""
        self.link.kill()

    def _begin(self) -> None:
        self.link.open(self._loop, self._hear, self._hung_up)
        self._era += 1
        self.link.send(Begin(self.high, self._era, self._run, self._begun))
        # The next writer comes after a death.
        self._begun = False

    def _tell(self, last: int, changes: list[Change], notes: list[Note]) -> None:
        self.link.send(Append(self._era, last, changes, notes=notes, places=self.places, key=self.key))

    def _tell_again(self) -> None:
        """Send again all changes that are not committed."""
        for last, changes, notes in self._unsettled:
            self._tell(last, changes, notes)

    # The messages of the writer.

    def _hear(self, message: FromWriter) -> None:
        if isinstance(message, Acknowledged):
            self._deaths = 0
            self._have_room()
            self._settle(message)
        elif isinstance(message, NoRoom):
            self._era = message.era
            self._have_no_room(message.why)
        elif isinstance(message, Expired):
            self._on_expired(message.jobs)
        elif isinstance(message, Opened):
            self._opened(message)
        else:
            self._fail(message)

    def _opened(self, message: Opened) -> None:
        self._up = True
        if message.full:
            self._settle(message)
            self._have_no_room(message.full)
        else:
            self._have_room()
            self._settle(message)
            self._tell_again()
        if not self._unsettled:
            self._deaths = 0
        if self._closing:
            self.link.send(Close())

    def _settle(self, message: Acknowledged | Opened) -> None:
        unsettled = self._unsettled
        while unsettled and unsettled[0][0] <= message.changes:
            unsettled.popleft()
        # The missing ones in between were refused.
        self._on_commit(message, message.changes if unsettled else self._sent)

    def _have_room(self) -> None:
        if self.full:
            self.full = False
            seconds = time.monotonic() - self._full_since
            log.warning("%s: there is room again after %.1f s, changes are accepted again", self._path, seconds)

    def lack_room(self, why: str) -> None:
        """Log once that there is no room."""
        if not self.full:
            self.full = True
            self._full_since = time.monotonic()
            log.error("%s: no room (%s): changes are answered 503 until there is, reads go on", self._path, why)

    def _have_no_room(self, why: str) -> None:
        """Give up the changes that were refused, and send again those that must not be lost."""
        self.lack_room(why)
        refused: list[int | str] = []
        kept: deque[tuple[int, list[Change], list[Note]]] = deque()
        for last, changes, notes in self._unsettled:
            refused += (change[0] for change in changes if is_recallable(change))
            refused += wished(notes)
            facts = [change for change in changes if not is_recallable(change)]
            noted = [note for note in notes if not is_recallable_note(note)]
            if facts or noted:
                kept.append((last, facts, noted))
        self._unsettled = kept
        self._tell_again()
        self._on_full(refused)

    def _hung_up(self, how: str) -> None:
        self._up = False
        if self._failed or (self._closing and (self.full or not self._unsettled)):
            self._ended.set_result(None)
            return
        self._deaths += 1
        now = time.monotonic()
        if self._deaths == 1:
            self._dying_since = now
        if self._deaths > DEATHS_MOST and now - self._dying_since > DYING_S:
            self._fail(Fatal(f"{self._path}: cannot be written: its writer {how}"))
            self._ended.set_result(None)
            return
        log.warning("%s: its writer %s, another is started and nothing is lost", self._path, how)
        self._loop.call_later(min(AGAIN_S * (2 ** (self._deaths - 1) - 1), AGAIN_MOST_S), self._start_again)

    def _start_again(self) -> None:
        try:
            self.link = WriterLink(self._path, self._sync, self._lock)
        except OSError as error:
            self._hung_up(f"cannot be started: {error}")
        else:
            self.restarts += 1
            self._begin()

    def _fail(self, message: Fatal) -> None:
        if not self._failed:
            self._failed = True
            self._on_fatal(message.line)
