"""Events as they come: ``/events`` and ``/jobs/{id}/events``, as server-sent events (WHATWG HTML, 9.2).

A client that comes back names the last event that it has. If that one is not kept, it hears of it
by the event ``reset``, and looks at the jobs itself. The data is JSON in ASCII, so no name breaks a
line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated

import msgspec
import orjson
from headway.core import ids
from headway.core.errors import HeadwayError
from headway.core.events import Event, EventFilter, Portion
from headway.core.faults import member_types
from headway.core.interface import Feed, Later, Soon
from headway.core.job import TERMINAL, State, Tag
from headway.core.status import Status
from headway.protocol.api import queries
from headway.protocol.api.awaited import once_known
from headway.protocol.api.filters import TEXT_LONGEST, States
from headway.protocol.api.headers import NAMES, REASONS
from headway.protocol.api.jobs import asked_for, find
from headway.protocol.api.service import Service
from headway.protocol.http.clock import iso
from headway.protocol.http.request import Request
from headway.protocol.http.responses import STATUS_LINES, Answer, Awaited, bodiless
from headway.protocol.http.stream import Stream
from msgspec import Meta

MEDIA_TYPE = b"text/event-stream"
# nginx would gather events before it passes them on.
UNBUFFERED = b"X-Accel-Buffering: no\r\n"
# Milliseconds until a client comes back.
RETRY_MS = 2000
# Texts that several readers may get.
SHARED_TEXTS = 16
_is_number = re.compile(rb"[0-9a-f]{20}").fullmatch

GONE = "the events after that of Last-Event-ID are not kept"
SLOW = "events were given up before this client read them"


class JobEventsQuery(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"last_event_id": "last-event-id"}
):
    """The query of a job's events. A client that cannot send Last-Event-ID gives it here."""

    last_event_id: Annotated[str, Meta(max_length=TEXT_LONGEST)] = ""


class EventsQuery(JobEventsQuery, frozen=True, forbid_unknown_fields=True):
    """The events that fit all members that are given."""

    state: States = ()
    task: Annotated[str, Meta(min_length=1, max_length=TEXT_LONGEST)] | None = None
    tag: Tag | None = None


LISTS = frozenset({"state"})
TEXTS = frozenset(member_types(EventsQuery)) - LISTS


def events(service: Service, request: Request, _: bytes) -> Answer | Awaited:
    """GET /events: the events of all jobs that fit the query, for ever."""
    query = queries.read(request.target, EventsQuery, LISTS, TEXTS)
    wanted = EventFilter(states=frozenset(State[name.upper()] for name in query.state), task=query.task, tag=query.tag)
    return _opened(
        service,
        request,
        query,
        wanted,
        lambda feed, opening: _streamed(
            service, request, b"", opening, EventStream(service, feed, sees_ids=request.caller.sees_ids)
        ),
    )


def of_job(service: Service, request: Request, name: bytes) -> Answer | Awaited:
    """GET /jobs/{id}/events: the present state of a job, and its events until it has ended."""
    query = queries.read(request.target, JobEventsQuery, LISTS, TEXTS)
    return find(service, name, lambda status, fields: _of_job(service, request, query, status, fields))


def _of_job(
    service: Service, request: Request, query: JobEventsQuery, status: Status, fields: bytes
) -> Answer | Awaited:
    if status.state == State.EXPIRED:
        head = service.heads.job(status) + fields
        return asked_for(service, request, status, head)

    def opened(feed: Feed, opening: bytes) -> Answer | Awaited:
        # Anew, so no event is between the two.
        try:
            looked = Looked(feed, service.engine.peek(status.id))
        except HeadwayError:
            feed.close()
            raise

        def begun() -> Answer:
            return _begun(service, request, looked.status() or status, fields, (feed, opening))

        return Awaited(looked, begun) if looked.is_later else begun()

    return _opened(service, request, query, EventFilter(job=status.id), opened)


def _begun(service: Service, request: Request, status: Status, fields: bytes, opened: tuple[Feed, bytes]) -> Answer:
    feed, first = opened
    fields = b"Job-State: %b\r\n%b" % (NAMES[status.state].encode(), fields)
    stream = EventStream(service, feed, status)
    first += stream.take() if feed.resumed else stream.present(status)
    if stream.has_told_end:
        # A browser would come back again and again, unless it gets this.
        feed.close()
        return STATUS_LINES[204] + fields + service.clock.fields + b"\r\n"
    return _streamed(service, request, fields, first, stream)


class Looked:
    """The status of a job once its events are known. They are closed if it cannot be read, or its client goes."""

    def __init__(self, feed: Feed, found: Soon[Status | None]) -> None:
        self._feed = feed
        self._found = found

    @property
    def is_later(self) -> bool:
        """Whether it is not known yet."""
        return isinstance(self._found, Later)

    def status(self) -> Status | None:
        """Return it. Raises HeadwayError if it cannot be read."""
        if not isinstance(self._found, Later):
            return self._found
        try:
            return self._found.value()
        except HeadwayError:
            self._feed.close()
            raise

    def when_known(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called once it is known, as Knowable says."""
        if isinstance(self._found, Later):
            self._found.when_known(wake)

    def hurry(self) -> None:
        """Do nothing: it is known in a moment."""

    def cancel(self) -> None:
        """Do not wake, as Knowable says."""
        if isinstance(self._found, Later):
            self._found.cancel()
        self._feed.close()


class EventStream:
    """The events of ``feed``, for one client. Those of a ``job`` end with it."""

    def __init__(self, service: Service, feed: Feed, job: Status | None = None, *, sees_ids: bool = True) -> None:
        self._service = service
        self._feed = feed
        self._sees_ids = sees_ids
        self._job = b"" if job is None else job.id
        # Whether the job had ended before this began, and the client was told so by an earlier stream.
        self._had_ended = job is not None and job.state in TERMINAL
        self.has_told_end = False
        # The status of the job, which follows missed events, and whether it is known. Events wait for it.
        self._follows: Later[Status | None] | None = None
        self._is_known = False
        self._wake: Callable[[], object] = int
        # As Source has it.
        self.ended = False

    def when_more(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called when there are events, as Source says."""
        self._wake = wake
        self._feed.when_more(wake)

    def take(self) -> bytes:
        """Return the next events, as Source says."""
        if self._follows is None:
            return self._next()
        if not self._is_known:
            return b""
        follows, self._follows = self._follows, None
        try:
            told = self._followed_by(follows.value())
        except HeadwayError:
            told = self._followed_by(None)
        return told if self.ended else told + self._next()

    def _next(self) -> bytes:
        taken = self._feed.take()
        if taken.missed:
            return self._missed(taken)
        if self._job:
            if taken.events:
                self.ended = taken.events[-1].state in TERMINAL
            elif self._had_ended and not taken.more:
                self.ended = self.has_told_end = True
                return self.beat()
        return self._text(taken) if taken.events else b""

    def beat(self) -> bytes:
        """Return a comment, and the place from which the client would go on."""
        return b":\nid: %b\n\n" % _id(self._feed.place)

    def close(self) -> None:
        """Tell nothing more, as Source says."""
        self._wake = int
        if self._follows is not None:
            self._follows.cancel()
        self._feed.close()

    def present(self, status: Status) -> bytes:
        """Return the present state of the job as its first event, the last one if it has ended."""
        self.ended = status.state >= State.SUCCEEDED
        return _event(
            Event(
                number=self._feed.place,
                job=status.id,
                task=status.task,
                state=status.state,
                attempt=status.attempt,
                reason=status.reason,
                tags=status.tags,
                time=max(status.submitted, status.started, status.ended),
            )
        )

    def _missed(self, taken: Portion) -> bytes:
        told = _reset(taken.place, SLOW, taken.missed) if taken.missed > 0 else _reset(taken.place, GONE, None)
        if not self._job:
            return told + self._text(taken)
        # It is no older than the events that were taken.
        try:
            found = self._service.engine.peek(self._job, brief=True)
        except HeadwayError:
            found = None
        if not isinstance(found, Later):
            return told + self._followed_by(found)
        self._follows, self._is_known = found, False
        found.when_known(self._follow)
        return told

    def _follow(self) -> None:
        self._is_known = True
        self._wake()

    def _followed_by(self, status: Status | None) -> bytes:
        """Return the present state of the job. If that cannot be told, the stream ends, and its client comes back."""
        if status is None:
            self.ended = True
            return b""
        return self.present(status)

    def _text(self, taken: Portion) -> bytes:
        """Return the text of events. Readers at the same place share it."""
        return _text(taken) if self._sees_ids else _text_without_tags(taken)


def _opened(
    service: Service,
    request: Request,
    query: JobEventsQuery,
    wanted: EventFilter,
    then: Callable[[Feed, bytes], Answer | Awaited],
) -> Answer | Awaited:
    """Return the answer that ``then`` makes of the events after the last one that the client has.

    It gets the text that comes before them, too.
    """
    # The field is newer: a browser sends it when it comes back to the same URL.
    last = request.headers.get(b"last-event-id") or query.last_event_id.encode()

    def told(feed: Feed) -> Answer | Awaited:
        opening = b"retry: %d\nid: %b\n\n" % (RETRY_MS, _id(feed.place))
        return then(feed, opening if feed.resumed or not last else opening + _reset(feed.place, GONE, None))

    return once_known(service.engine.watch(wanted, int(last, 16) if _is_number(last) else None), told)


def _streamed(service: Service, request: Request, fields: bytes, first: bytes, stream: EventStream) -> Answer:
    head = bodiless(STATUS_LINES[200] + fields + service.clock.fields + UNBUFFERED, MEDIA_TYPE)
    if request.method == b"HEAD":
        stream.close()
        return head
    return Stream(head, first, stream)


def _id(number: int) -> bytes:
    return b"%020x" % number


def _reset(place: int, why: str, missed: int | None) -> bytes:
    """Return the event that says that events were missed, and how many of all jobs if that is known."""
    detail = f"{why}: list the jobs (GET /jobs), and go on with this stream"
    data = orjson.dumps({"missed": missed, "detail": detail})
    return b"id: %b\nevent: reset\ndata: %b\n\n" % (_id(place), data)


@lru_cache(maxsize=SHARED_TEXTS)
def _text(taken: Portion) -> bytes:
    return b"".join(map(_event, taken.events))


@lru_cache(maxsize=SHARED_TEXTS)
def _text_without_tags(taken: Portion) -> bytes:
    return b"".join(_event(event, sees_ids=False) for event in taken.events)


def _event(event: Event, *, sees_ids: bool = True) -> bytes:
    members: dict[str, object] = {
        "id": (event.job if sees_ids else ids.without_tag(event.job)).decode(),
        "task": event.task,
        "state": NAMES[event.state],
        "attempt": event.attempt,
    }
    if event.tags:
        members["tags"] = event.tags
    if event.state == State.FAILED:
        members["reason"] = REASONS[event.reason]
    members["time"] = iso(event.time)
    data = orjson.dumps(members)
    if not data.isascii():
        # Some clients take U+0085 or U+2028 for the end of a line.
        data = json.dumps(members, separators=(",", ":")).encode()
    return b"id: %b\nevent: state\ndata: %b\n\n" % (_id(event.number), data)
