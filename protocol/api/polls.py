"""HEAD of a job, from the bytes read to the bytes written: the road of nearly all requests.

One loop over all reads of a turn. Elsewhere a function call costs little beside the work. Here the
calls that this loop does not make (connection, heads, reading, ids, board) were half of a poll's
time: docs/adr/0005. It answers as ``Heads.job`` does for the status. Everything that it does not
know goes to the connection.
"""

from __future__ import annotations

import logging
from binascii import Error as HexError
from binascii import unhexlify
from collections.abc import Iterator, Sequence

from headway.core import ids
from headway.core.board.rows import (
    ATTEMPT_MAX,
    ATTEMPT_SHIFT,
    GENERATION_SHIFT,
    PROGRESS_NONE,
    PROGRESS_SHIFT,
    STATE_MASK,
)
from headway.core.errors import HeadwayError
from headway.core.interface import Later, Polled
from headway.core.job import State
from headway.core.status import Status
from headway.protocol.api.awaited import later
from headway.protocol.api.headers import (
    PROGRESS_FIELD,
    RUNNING_FIELDS,
    SUCCEEDED_FIELDS,
    WAITING_FIELDS,
    message_field,
)
from headway.protocol.api.jobs import finding
from headway.protocol.api.service import POLL, Service
from headway.protocol.http.clock import http_date
from headway.protocol.http.responses import Awaited
from headway.protocol.http.round import ClientRead, RoundClient

log = logging.getLogger(__name__)

METHOD = b"HEAD "
# The most polls of one read that are answered together. A client with more takes turns with others.
TOGETHER_MOST = 16

# Plain ints: a member of an enum costs twice as much to compare.
QUEUED, RUNNING, SUCCEEDED = int(State.QUEUED), int(State.RUNNING), int(State.SUCCEEDED)
WAITING, DONE, PROGRESS = WAITING_FIELDS + b"\r\n", SUCCEEDED_FIELDS + b"\r\n", PROGRESS_FIELD + b"\r\n"


class Polls:
    """Answers the polls that come to ``service``."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._head_job = METHOD + service.jobs
        # The places of the id and of the rest in a HEAD of a job.
        self._id = len(self._head_job)
        self._rest = self._id + ids.ID_LENGTH

    def rest(self, target: bytes, data: bytes) -> bytes | None:
        """Return the part of ``data`` after the id if it is a HEAD of a job at ``target``, else None."""
        rest = self._rest
        is_poll = data[: self._id] == self._head_job and target == data[len(METHOD) : rest]
        # With a slash it is the path of another route, or of none.
        return data[rest:] if is_poll and b"/" not in data[self._id : rest] else None

    def answer(self, reads: Iterator[ClientRead], now: float) -> None:
        """Answer the reads of each client. ``now`` is of time.monotonic.

        If reads other than known polls have taken all the time of this turn, some of ``reads`` are
        left.
        """
        polled = self._service.engine.polled
        if polled is not None:
            self._answer(polled, reads, now)
            return
        for client, data in reads:
            if not self._read(client, data):
                return

    # Cut into functions, it takes 0.25 µs more for each poll, an eighth of its time.
    def _answer(self, polled: Polled, reads: Iterator[ClientRead], now: float) -> None:  # noqa: C901
        service = self._service
        heads, idle_deadline = service.heads, service.connections.idle_deadline
        openings, offset, polls, answers = heads.openings, heads.offset, heads.polls, service.connections.round.answers
        board, promises, messages = polled.board, polled.promises, polled.messages
        rows, live, tag = board.rows, board.live, board.tag
        ours = self._head_job + polled.marker
        # The number stands after the marker, which only this server's ids have.
        number_at, rest_at = len(ours), self._rest
        submitted, started, ended = board.submitted, board.started, board.ended
        held, task = promises.held, board.task
        place, kept_until = board.place, board.kept_until
        # No job succeeds meanwhile.
        given_up = board.last_place[SUCCEEDED] - board.kept_jobs[SUCCEEDED]
        for client, data in reads:
            known = client.known_rest
            if known is None or data[:number_at] != ours or not client.free or client.to_flush:
                if not self._read(client, data):
                    return
                continue
            # The same bytes as before, around another id, need no parser.
            texts: Sequence[bytes]
            if data[rest_at:] == known:
                texts, left, more = (data[number_at:rest_at],), 1, False
            else:
                texts, more = self._polled(data, known, number_at), True
                left = len(texts)
            answer = b""
            try:
                for text in texts:
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
                        break
                    if state == RUNNING:
                        wait = promises.retry_after_ms(row, word, 0, now)
                        fields = RUNNING_FIELDS % ((wait + 999) // 1000, wait, word >> ATTEMPT_SHIFT & ATTEMPT_MAX)
                        progress = word >> PROGRESS_SHIFT & PROGRESS_NONE
                        # A message comes with progress, or not at all.
                        fields += (
                            b"\r\n"
                            if progress == PROGRESS_NONE
                            else PROGRESS % progress
                            if sequence not in messages
                            else message_field(messages[sequence]) + PROGRESS % progress
                        )
                    elif state == QUEUED and not (held and task[row] in held):
                        ahead = promises.ahead(row)
                        wait = promises.retry_after_ms(row, word, ahead, now)
                        fields = WAITING % ((wait + 999) // 1000, wait, ahead)
                    elif state == SUCCEEDED and place[row] > given_up and now < (until := kept_until[row]):
                        end, start = ended[row], started[row]
                        date = http_date(int(until + offset))
                        fields = DONE % (date, date, (start - submitted[row]) * 1000, (end - start) * 1000)
                    else:
                        break
                    if live[row] != word:
                        # The engine of a gateway has changed it meanwhile.
                        break
                    answer += openings[state] + fields
                    polls[state] += 1
                    left -= 1
            except HexError:
                pass
            except Exception:
                log.exception("a poll failed: %r", data[:rest_at])
                client.transport.abort()
                continue
            if answer:
                answers.append((client, answer))
                client.to_flush = True
                client.deadline = idle_deadline
            if (left or more) and not self._read_rest(client, data, (len(texts) - left) * (rest_at + len(known))):
                return

    def _polled(self, data: bytes, known: bytes, number_at: int) -> list[bytes]:
        """Return the ids, without their marker, of the known polls that ``data`` begins with.

        Clients send several at once whose jobs are due together.
        """
        rest, at = self._rest, 0
        found: list[bytes] = []
        size, ours = rest + len(known), data[:number_at]
        while len(found) < TOGETHER_MOST and data.startswith(ours, at) and data.startswith(known, at + rest):
            found.append(data[at + number_at : at + rest])
            at += size
        return found

    def _read_rest(self, client: RoundClient, data: bytes, begin: int) -> bool:
        """Have ``client`` read ``data`` from ``begin`` on, as ``_read`` does, if there is more."""
        return begin == len(data) or self._read(client, data[begin:])

    def _read(self, client: RoundClient, data: bytes) -> bool:
        """Have ``client`` read other data than a known poll. Return whether this turn has time left."""
        turn = self._service.connections.round
        if data.startswith(self._head_job) and client.known_rest is not None:
            data = self._peeked(client, data, client.known_rest)
            if not data:
                return not turn.is_over()
        if client.to_flush:
            # Its earlier answers of this turn come first.
            turn.write()
        client.read(data)
        return not turn.is_over()

    def _peeked(self, client: RoundClient, data: bytes, known: bytes) -> bytes:
        """Answer the known polls that ``data`` begins with, of jobs in any state. Return the rest of it."""
        if not client.free or client.to_flush:
            return data
        service, at = self._service, 0
        answers: list[bytes] = []
        awaited: Awaited | None = None
        for text in self._polled(data, known, self._id):
            if not ids.has_form(text):
                # It may be a path and more, even two requests: an engine far away is asked before that is known.
                break
            try:
                status = service.engine.peek(text, brief=True)
            except HeadwayError:
                break
            if isinstance(status, Later):
                # It is read elsewhere. What comes after it waits for it.
                awaited = later(status, finding(service, text, self._told))
            if not isinstance(status, Status):
                break
            answers.append(service.heads.job(status) + b"\r\n")
            service.heads.polls[status.state] += 1
            at += self._rest + len(known)
        if answers:
            service.connections.round.answer_soon(client, b"".join(answers))
            client.deadline = service.connections.idle_deadline
        if awaited is not None:
            client.let_wait(awaited, data[at + len(METHOD) : at + self._rest], POLL)
            at += self._rest + len(known)
        return data[at:]

    def _told(self, status: Status, _: bytes) -> bytes:
        # The text has the form of an id, and no key has.
        return self._service.heads.job(status) + b"\r\n"
