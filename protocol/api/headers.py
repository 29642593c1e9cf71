"""Status line and header lines about a job: the whole answer to a HEAD.

The opening of a head, from the status line to the date, is made once a second for each state. The
rest is one format for each state.

``head`` in this package means the status line and header lines without the empty line after them.
"""

from __future__ import annotations

from urllib.parse import quote

from headway.core.body import is_media_type
from headway.core.config import HttpSection
from headway.core.durability import Durability
from headway.core.job import Reason, State
from headway.core.status import Status
from headway.protocol.http.clock import Clock, http_date
from headway.protocol.http.responses import JSON, OCTETS, PROBLEM, STATUS_LINES

NAMES = [state.name.lower() for state in State]
REASONS = [reason.text for reason in Reason]
# The end of a job or batch without success, as the title of its problem document tells it.
ENDED: dict[int, str] = {State.FAILED: "failed", State.CANCELLED: "was cancelled", State.EXPIRED: "has expired"}

# Said of a job whose task is held without a reason.
HELD = "held"
# The code for each state, which tells a client the next step: see docs/protocol.md.
CODES = {
    State.SCHEDULED: 202,
    State.QUEUED: 202,
    State.RUNNING: 202,
    State.RETRYING: 202,
    State.SUCCEEDED: 200,
    State.FAILED: 424,
    State.CANCELLED: 410,
    State.EXPIRED: 410,
}
# The lines after the opening, by state.
WAITING_FIELDS = b"Retry-After: %d\r\nRetry-After-Ms: %d\r\nJob-Position: %d\r\n"
# Of a 202 to a submission whose jobs have finished before it is answered: what became of them can be asked at once.
FINISHED_FIELDS = b"Retry-After: 1\r\nRetry-After-Ms: 1\r\n"
RUNNING_FIELDS = b"Retry-After: %d\r\nRetry-After-Ms: %d\r\nJob-Attempt: %d\r\n"
DURABILITY_FIELD = b"Job-Durability: %b\r\n"
PROGRESS_FIELD = b"Job-Progress: %d\r\n"
HELD_FIELD = b"Job-Held: %b\r\n"
MESSAGE_FIELD = b"Job-Message: %b\r\n"
# Characters of a message, or a reason, that stay as they are. A percent sign would look like the beginning of another.
VISIBLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
APPLIED = b"Preference-Applied: "
SUCCEEDED_FIELDS = b"Expires: %b\r\nSunset: %b\r\nServer-Timing: queue;dur=%.1f, run;dur=%.1f\r\n"


class Heads:
    """Heads of answers about jobs, with the date of the last ``tick``. Ticks come once a second."""

    def __init__(self, clock: Clock, http: HttpSection, durability: Durability) -> None:
        self._clock = clock
        self._base = http.base.encode()
        self.codes = [CODES.get(state, 404) for state in State]
        self.codes[State.FAILED] = http.failed_status
        # How many HEADs of one job ``Polls`` answered, by state. ``Connections.requests`` has all others.
        self.polls = [0] * len(State)
        # The lines after the opening, by state.
        writers = {
            State.SCHEDULED: self._waiting,
            State.QUEUED: self._waiting,
            State.RUNNING: self._running,
            State.RETRYING: self._retrying,
            State.SUCCEEDED: self._succeeded,
            State.FAILED: self._failed,
            State.CANCELLED: self._cancelled,
        }
        self._fields = [writers.get(state, self._nothing) for state in State]
        self.tick(durability)

    def tick(self, durability: Durability) -> None:
        """Make the openings of this second. ``durability`` is the promise of answers that accept jobs."""
        self.durability = DURABILITY_FIELD % durability.encode()
        # For the poll loop: added to monotonic time, it gives wall time.
        self.offset = self._clock.offset
        lines = [b"Job-State: %b\r\n%b" % (name.encode(), self._clock.fields) for name in NAMES]
        # By state. Those of ``accepted`` are formats that take an id. Their Content-Type comes with
        # their body.
        self.openings = [
            b"%b%bContent-Type: %b\r\n" % (STATUS_LINES[code], line, media_type(code))
            for code, line in zip(self.codes, lines, strict=True)
        ]
        where = STATUS_LINES[202] + b"Location: %b/jobs/%%b\r\n" % self._base
        self._accepted = [where + line + self.durability for line in lines]

    def job(self, status: Status) -> bytes:
        """Return the head that tells the state of a job."""
        state = status.state
        return self.openings[state] + self._fields[state](status)

    def accepted(self, status: Status, job_id: bytes) -> bytes:
        """Return the head that accepts a job, which may have finished meanwhile."""
        state = status.state
        fields = FINISHED_FIELDS if state >= State.SUCCEEDED else self._fields[state](status)
        return self._accepted[state] % job_id + fields

    def _waiting(self, status: Status) -> bytes:
        wait = status.retry_after_ms
        fields = WAITING_FIELDS % ((wait + 999) // 1000, wait, status.position)
        return fields if status.held is None else fields + held_field(status.held)

    def _retrying(self, status: Status) -> bytes:
        return b"%bJob-Attempt: %d\r\n" % (self._waiting(status), status.attempt)

    def _running(self, status: Status) -> bytes:
        wait = status.retry_after_ms
        fields = RUNNING_FIELDS % ((wait + 999) // 1000, wait, status.attempt)
        if status.message:
            fields += message_field(status.message)
        return fields if status.progress is None else fields + PROGRESS_FIELD % status.progress

    def _succeeded(self, status: Status) -> bytes:
        date, started = http_date(int(status.kept_until)), status.started
        return SUCCEEDED_FIELDS % (date, date, (started - status.submitted) * 1000, (status.ended - started) * 1000)

    def _failed(self, status: Status) -> bytes:
        reason = REASONS[status.reason].encode()
        return b"%bJob-Reason: %b\r\nJob-Attempt: %d\r\n" % (self._until(status), reason, status.attempt)

    def _cancelled(self, status: Status) -> bytes:
        lost = b"Job-Reason: lost\r\n" if status.reason == Reason.LOST else b""
        return self._until(status) + lost

    def _until(self, status: Status) -> bytes:
        date = http_date(int(status.kept_until))
        return b"Expires: %b\r\nSunset: %b\r\n" % (date, date)

    def _nothing(self, _: Status) -> bytes:
        return b""

    def kept_for(self, status: Status) -> int:
        """Return how many seconds from now a finished job's status is kept, at the longest."""
        return max(int(status.kept_until - self._clock.now - self._clock.offset), 0)


def held_field(reason: str) -> bytes:
    """Return the header line of a hold, whose reason may be empty."""
    return HELD_FIELD % (_visible(reason) or HELD.encode())


def message_field(message: str) -> bytes:
    """Return the header line of a message."""
    return MESSAGE_FIELD % _visible(message)


def _visible(text: str) -> bytes:
    """Return a text of anybody's as visible ASCII, with all else percent-encoded. It cannot end its line."""
    return quote(text.strip(), safe=VISIBLE, errors="replace").encode()


def content_type(text: str) -> bytes:
    """Return the media type of kept content. One that could end its line is not from us: OCTETS."""
    return text.strip().encode() if is_media_type(text) else OCTETS


def minimal(fields: bytes) -> bytes:
    """Return the end of an answer without content: ``fields``, and the preferences that were followed in one line."""
    before, _, waited = fields.partition(APPLIED)
    waited = waited.removesuffix(b"\r\n") + b", " if waited else b""
    return b"%b%b%breturn=minimal\r\nContent-Length: 0\r\n\r\n" % (before, APPLIED, waited)


def media_type(code: int) -> bytes:
    """Return the media type of an answer about jobs, by its status code."""
    return PROBLEM if code >= 400 else JSON
