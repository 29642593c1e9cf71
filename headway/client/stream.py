"""The course of events: an event stream, read through restarts of the server.

The format is that of server-sent events (WHATWG HTML, 9.2). A stream that breaks is opened again
behind the last event that came. The server says if events between were missed.
"""

from __future__ import annotations

import json
import random
from collections.abc import Generator, Iterable, Iterator

from headway.client import answers, facts
from headway.client.exchange import STREAM, Course, Lost, Pause, Response, Road, Send, Step, Value, part_of_stream
from headway.client.filters import query
from headway.client.roads import Roads
from headway.client.status import JobEvent

# Seconds of silence after which a stream is taken for broken: the server writes something every 15.
SILENCE_S = 40.0
# Seconds before a stream that broke is opened again, if the server does not say, and the most.
AGAIN_S = 1.0
AGAIN_MOST_S = 60.0
# The longest line, in bytes. An event is a few hundred.
LINE_MOST = 1 << 20


def is_event_id(text: str) -> bool:
    """Whether a text can be the id of an event, which is sent back in a header."""
    return text.isascii() and text.isprintable()


class EventLines:
    """The lines of a stream as events."""

    def __init__(self, last_id: str | None) -> None:
        if last_id is not None and not is_event_id(last_id):
            raise ValueError(f"after={last_id!r} is not allowed: expected the event_id of an event")
        # Of the last event that came whole, and of the one that is under way.
        self.last_id = self._next_id = last_id
        # Seconds before the stream is opened again.
        self.again_s = AGAIN_S
        self._rest = b""
        self._kind = ""
        self._data: list[str] = []

    def feed(self, data: bytes) -> Iterator[JobEvent]:
        """Take bytes as they come, and yield the events that they complete."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()[-LINE_MOST:]
        for line in lines:
            event = self._line(line.removesuffix(b"\r").decode(errors="replace"))
            if event is not None:
                yield event

    def broken(self) -> None:
        """Forget the event that the stream has not completed."""
        self._rest, self._kind, self._next_id = b"", "", self.last_id
        self._data.clear()

    def _line(self, line: str) -> JobEvent | None:
        """Take a line, and return the event that it completes."""
        if not line:
            kind, data = self._kind or "message", "\n".join(self._data)
            self._kind, self.last_id = "", self._next_id
            self._data.clear()
            return _event(kind, self.last_id, data)
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id" and is_event_id(value):
            self._next_id = value
        elif name == "event":
            self._kind = value
        elif name == "retry" and value.isascii() and value.isdecimal():
            self.again_s = min(int(value[:9]) / 1000, AGAIN_MOST_S)
        elif name == "data":
            self._data.append(value)
        return None


def _event(kind: str, event_id: str | None, data: str) -> JobEvent | None:
    """Return an event, None for one of a kind that is none of this client's."""
    if kind not in ("state", "reset"):
        return None
    try:
        members = json.loads(data)
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, dict):
        # A reset without details is still one.
        members = {}
    return facts.event(kind, event_id, members) if members or kind == "reset" else None


def of_all(
    roads: Roads, *, task: object, state: str | Iterable[str] | None, tag: str | None, after: str | None
) -> Course[JobEvent]:
    """Tell the events of all jobs that fit, for ever."""
    members = query({"task": task, "state": state, "tag": tag})
    lines = EventLines(after)
    while True:
        yield from _open(roads, f"/events?{members}" if members else "/events", "GET /events", lines)
        yield from _read(lines)


def of_job(roads: Roads, job_id: str, after: str | None) -> Course[JobEvent]:
    """Tell the present state of a job, and its events until it has ended."""
    lines = EventLines(after)
    while True:
        is_over = yield from _open(roads, f"/jobs/{job_id}/events", f"job {job_id}", lines)
        if is_over or (yield from _read(lines, ends=True)):
            return


def _open(roads: Roads, path: str, about: str, lines: EventLines) -> Road[bool]:
    """Open a stream behind the last event that came. Return whether none can follow."""
    headers = {"Accept": STREAM} | ({"Last-Event-ID": lines.last_id} if lines.last_id else {})
    response = yield from roads.exchange(Send("GET", path, headers, read_timeout_s=SILENCE_S, streams=True))
    if response.code == 204:
        return True
    if response.code != 200 or not response.headers.get("content-type", "").startswith(STREAM):
        if response.headers.get("job-state") == "expired":
            raise answers.failure(answers.status(response, about.removeprefix("job ")))
        raise answers.error(response, about)
    return False


def _read(lines: EventLines, *, ends: bool = False) -> Generator[Step[JobEvent], Response | None, bool]:
    """Tell the events of a stream until it breaks, and pause. Return whether its job has ended, if it ``ends``."""
    try:
        while data := (yield from part_of_stream()):
            for event in lines.feed(data):
                yield Value(event)
                if ends and event.finished:
                    return True
    except Lost:
        # As by a restart. The next request tells if there is no server any more.
        pass
    lines.broken()
    if lines.last_id is None:
        # There is no place to go on from.
        yield Value(JobEvent("reset", None))
    yield Pause(lines.again_s * random.uniform(1, 1.5))  # noqa: S311
    return False
