"""HEAD of a job, from the bytes that were read to the bytes that are written: the road that nearly all requests take.

One loop over all that was read in a turn. Elsewhere a call of a function costs little beside the work; here the calls
that this loop does not make (connection, heads, reading, ids, board) were half of a poll's time: docs/adr/0005.
What it answers is what ``Heads.job`` makes of the status; all that it does not know goes to the connection.
"""

from __future__ import annotations

import logging
from binascii import Error as HexError
from binascii import unhexlify
from collections.abc import Iterator

from headway.core import ids
from headway.core.board.rows import (
    ATTEMPT_MAX,
    ATTEMPT_SHIFT,
    GENERATION_SHIFT,
    PROGRESS_NONE,
    PROGRESS_SHIFT,
    STATE_MASK,
)
from headway.core.interface import Polled
from headway.core.job import State
from headway.protocol.api.headers import PROGRESS_FIELD, RUNNING_FIELDS, SUCCEEDED_FIELDS, WAITING_FIELDS
from headway.protocol.api.service import Service
from headway.protocol.http.clock import http_date
from headway.protocol.http.round import Client

log = logging.getLogger(__name__)

# Where the target, the id and the rest begin in a HEAD of a job.
HEAD_JOB = b"HEAD /jobs/"
TARGET = len(b"HEAD ")
ID = len(HEAD_JOB)
REST = ID + ids.LENGTH
# And what only this server's ids have: the number behind the marker.
NUMBER = ID + ids.MARKER_LENGTH

# Plain ints: a member of an enum costs twice as much to compare.
QUEUED, RUNNING, SUCCEEDED = int(State.QUEUED), int(State.RUNNING), int(State.SUCCEEDED)
WAITING, DONE, PROGRESS = WAITING_FIELDS + b"\r\n", SUCCEEDED_FIELDS + b"\r\n", PROGRESS_FIELD + b"\r\n"


class Polls:
    """Answers the polls that come to ``service``."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def answer(self, reads: Iterator[tuple[Client, bytes]], now: float) -> None:
        """Answer what was read from each client; ``now`` is of time.monotonic.

        Where others than known polls have taken all the time of this turn, some of ``reads`` are left.
        """
        polled = self._service.engine.polled
        if polled is not None:
            self._answer(polled, reads, now)
            return
        for client, data in reads:
            if not self._read(client, data):
                return

    def _answer(self, polled: Polled, reads: Iterator[tuple[Client, bytes]], now: float) -> None:
        service = self._service
        heads, idle_deadline = service.heads, service.connections.idle_deadline
        openings, expiry, polls, answers = heads.openings, heads.expiry, heads.polls, service.connections.round.answers
        board = polled.board
        rows, live, tag = board.rows, board.live, board.tag
        ours = HEAD_JOB + polled.marker
        submitted, started, ended = board.submitted, board.started, board.ended
        for client, data in reads:
            # The same bytes as before around another id need no parser.
            if data[REST:] != client.known_rest or data[:NUMBER] != ours or not client.free or client.to_flush:
                if not self._read(client, data):
                    return
                continue
            text = data[NUMBER:REST]
            try:
                number = int.from_bytes(unhexlify(text), "big")
                sequence = number >> ids.TAG_BITS
                row = sequence % rows
                word = live[row]
                state = word & STATE_MASK
                if (
                    word >> GENERATION_SHIFT != sequence // rows
                    or tag[row] != number & ids.TAG_MASK
                    or text != text.lower()
                ):
                    client.read(data)
                    continue
                if state == RUNNING:
                    wait = polled.retry_after_ms(row, word, 0, now)
                    fields = RUNNING_FIELDS % ((wait + 999) // 1000, wait, word >> ATTEMPT_SHIFT & ATTEMPT_MAX)
                    progress = word >> PROGRESS_SHIFT & PROGRESS_NONE
                    fields += b"\r\n" if progress == PROGRESS_NONE else PROGRESS % progress
                elif state == QUEUED:
                    ahead = polled.ahead(row)
                    wait = polled.retry_after_ms(row, word, ahead, now)
                    fields = WAITING % ((wait + 999) // 1000, wait, ahead)
                elif state == SUCCEEDED and board.kept(row, now):
                    end, start = ended[row], started[row]
                    date = http_date(int(end + expiry))
                    fields = DONE % (date, date, (start - submitted[row]) * 1000, (end - start) * 1000)
                else:
                    client.read(data)
                    continue
                answers.append((client, openings[state] + fields))
                client.to_flush = True
                client.deadline = idle_deadline
                polls[state] += 1
            except HexError:
                client.read(data)
            except Exception:
                log.exception("a poll failed: %r", data[:REST])
                client.transport.abort()

    def _read(self, client: Client, data: bytes) -> bool:
        """Have ``client`` read what is no known poll; return whether this turn has time for more."""
        turn = self._service.connections.round
        if client.to_flush:
            # What it was answered before in this turn comes first.
            turn.write()
        client.read(data)
        return not turn.is_over()
