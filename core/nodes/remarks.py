"""Progress, messages and text of the attempts in this node's hands, on their way to the store.

They leave at most every SEND_S, and before the end of an attempt whatever it has left. While the
store is away no more of a text is kept than a log keeps. A text whose confirmation was lost is sent
again, so lines may stand in a log twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextvars import Context as Variables
from functools import partial
from typing import Any

import msgspec
from headway.core.link.reply_error import LinkLostError
from headway.core.log_text import LogText
from headway.core.nodes.exchange import Exchange
from headway.core.nodes.hand import Hand
from headway.core.store.changes import Logged, Reported
from headway.core.work.reports import Reports

# Seconds between two messages about one attempt.
SEND_S = 0.05


class Remarked(msgspec.Struct):
    """The remarks of one attempt that the store has not confirmed."""

    hand: Hand
    progress: tuple[int, str] | None = None
    # Text that was not sent, and the place up to which it was.
    text: LogText | None = None
    upto: int = 0
    # Text that is with the store, in order.
    sent: list[Logged] = msgspec.field(default_factory=list)


class Remarks:
    """Takes remarks (core/work/reports.py). ``find`` returns the exchange of a job."""

    def __init__(self, held: Mapping[int, Hand], log_bytes: int, find: Callable[[int], Exchange]) -> None:
        self.log_bytes = log_bytes
        self.reports: dict[int, Reports] = {}
        self._held = held
        self._find = find
        self._of: dict[int, Remarked] = {}
        # Jobs with something to send.
        self._dirty: set[int] = set()
        self._is_due = False
        self._sent_at = 0.0

    def __len__(self) -> int:
        return len(self._of)

    def progressed(self, sequence: int, attempt: int, percent: int, message: str) -> None:
        """Take the progress of an attempt that runs."""
        remarked = self._remarked(sequence, attempt)
        if remarked is not None:
            remarked.progress = percent, message
            self._send_soon(sequence)

    def write(self, sequence: int, attempt: int, text: bytes, skipped: int = 0) -> None:
        """Take text of an attempt that runs, after ``skipped`` bytes that were not kept."""
        remarked = self._remarked(sequence, attempt)
        if remarked is None:
            self.reports.pop(sequence, None)
            return
        if remarked.text is None:
            remarked.text = LogText(self.log_bytes)
            remarked.upto = 0
        remarked.text.skip(skipped)
        remarked.text.add(0, text)
        self._send_soon(sequence)

    def _remarked(self, sequence: int, attempt: int) -> Remarked | None:
        hand = self._held.get(sequence)
        if hand is None or hand.attempt != attempt:
            return None
        remarked = self._of.get(sequence)
        if remarked is None or remarked.hand is not hand:
            remarked = self._of[sequence] = Remarked(hand)
        return remarked

    def end(self, sequence: int) -> None:
        """Take what the threads of an attempt have left: it has ended."""
        if self.reports and (reports := self.reports.pop(sequence, None)) is not None:
            reports.finish()

    def flush(self, sequence: int) -> None:
        """Send all that an attempt has said: its job is about to be ended."""
        if sequence in self._held:
            self.end(sequence)
            self.send(sequence)

    def forget(self, sequence: int) -> None:
        """Drop the remarks of an attempt: its end is confirmed, or it counts no more."""
        if self._of:
            self._of.pop(sequence, None)
            self._dirty.discard(sequence)
        if self.reports:
            self.reports.pop(sequence, None)

    def _send_soon(self, sequence: int) -> None:
        self._dirty.add(sequence)
        if not self._is_due:
            self._is_due = True
            delay = max(self._sent_at + SEND_S - time.monotonic(), 0.0)
            # Not in the context of the job, which the timer would keep.
            asyncio.get_running_loop().call_later(delay, self._send_all, context=Variables())

    def _send_all(self) -> None:
        self._is_due = False
        self._sent_at = time.monotonic()
        for sequence in list(self._dirty):
            # Text that is with the store comes first. Its reply has the rest sent.
            if not self._of[sequence].sent:
                self.send(sequence)

    def send(self, sequence: int) -> None:
        """Send the remarks of an attempt that are left. While the store is away they stay."""
        remarked = self._of.get(sequence)
        exchange = self._find(sequence)
        if remarked is None or not exchange.link.is_up:
            return
        self._dirty.discard(sequence)
        hand = remarked.hand
        if remarked.progress is not None:
            percent, message = remarked.progress
            remarked.progress = None
            exchange.report(Reported(sequence, hand.attempt, percent, message))
        if remarked.text is None:
            return
        for place, text in remarked.text.take():
            piece = Logged(sequence, hand.attempt, text, place - remarked.upto)
            remarked.upto = place + len(text)
            remarked.sent.append(piece)
            exchange.write_log(piece, self.log_bytes).add_done_callback(partial(self._written, remarked, piece))

    def _written(self, remarked: Remarked, piece: Logged, future: asyncio.Future[Any]) -> None:
        if all(one is not piece for one in remarked.sent):
            # It was taken back together with one before it.
            future.exception()
            return
        if isinstance(future.exception(), LinkLostError):
            self._take_back(remarked)
            return
        remarked.sent = [one for one in remarked.sent if one is not piece]
        if not remarked.sent and remarked.hand.sequence in self._dirty:
            self._send_soon(remarked.hand.sequence)

    def _take_back(self, remarked: Remarked) -> None:
        """Keep all that was not confirmed, to be sent again."""
        again = LogText(self.log_bytes)
        after = [] if remarked.text is None else remarked.text.take()
        for piece in remarked.sent:
            again.skip(piece.skipped)
            again.add(0, piece.text)
        for place, text in after:
            again.skip(place - remarked.upto)
            again.add(0, text)
            remarked.upto = place + len(text)
        remarked.sent.clear()
        remarked.text, remarked.upto = again, 0
        if self._of.get(remarked.hand.sequence) is remarked:
            self._dirty.add(remarked.hand.sequence)

    def up(self) -> None:
        """Send what waits: the store is there again."""
        for sequence in list(self._dirty):
            self._send_soon(sequence)
