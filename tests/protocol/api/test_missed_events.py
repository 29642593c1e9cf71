"""The stream of one job after events were missed: its state follows, also where that is known only later."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from headway.core.config import Config
from headway.core.errors import EngineAwayError
from headway.core.events import Event, Portion
from headway.core.interface import Feed, Later
from headway.core.job import State
from headway.core.status import Status, bare
from headway.protocol.api.events import EventStream, of_job
from headway.protocol.http.request import Request

JOB = b"j" * 36


class Missed(Feed):
    """A feed that has missed events, and then has those that are given."""

    resumed = False
    place = 7

    def __init__(self, *states: State) -> None:
        events = [Event(8 + at, JOB, "add", state, 1, 0, (), 0.0) for at, state in enumerate(states)]
        self._portions = [Portion([], 3, 7, more=False), Portion(events, 0, 7 + len(events), more=False)]
        self.wake: Callable[[], object] = int
        self.is_closed = False

    def when_more(self, wake: Callable[[], object]) -> None:
        self.wake = wake

    def take(self) -> Portion:
        return self._portions.pop(0) if self._portions else Portion([], 0, self.place, more=False)

    def close(self) -> None:
        self.is_closed = True


class Looked(Later[Status | None]):
    """The status of the job, or the error that came instead, once ``come`` was called."""

    def __init__(self, found: Status | EngineAwayError | None) -> None:
        self._found = found
        self.come: Callable[[], object] = int

    def when_known(self, wake: Callable[[], object]) -> None:
        self.come = wake

    def value(self) -> Status | None:
        if isinstance(self._found, EngineAwayError):
            raise self._found
        return self._found

    def cancel(self) -> None:
        self.come = int


def status(state: State) -> Status:
    return msgspec.structs.replace(bare(state, 1, JOB), task="add")


def stream_of(feed: Feed, found: Any) -> tuple[EventStream, list[None]]:
    """Return the stream of a job whose status is ``found``, and a list that grows each time it wakes."""
    woken: list[None] = []
    service: Any = SimpleNamespace(engine=SimpleNamespace(peek=lambda job, brief: found))
    stream = EventStream(service, feed, status(State.RUNNING))
    stream.when_more(lambda: woken.append(None))
    return stream, woken


def test_a_job_that_ended_in_what_was_missed_ends_its_stream() -> None:
    looked = Looked(status(State.SUCCEEDED))
    stream, woken = stream_of(Missed(), looked)
    assert b"event: reset" in stream.take()
    assert (stream.take(), stream.ended, woken) == (b"", False, [])
    looked.come()
    assert woken
    assert b'"state":"succeeded"' in stream.take()
    assert stream.ended


def test_events_after_those_that_were_missed_come_after_the_state() -> None:
    looked = Looked(status(State.RUNNING))
    stream, _ = stream_of(Missed(State.RETRYING), looked)
    assert b"event: reset" in stream.take()
    # What comes meanwhile has to wait.
    assert stream.take() == b""
    looked.come()
    told = stream.take()
    assert told.index(b'"running"') < told.index(b'"retrying"')
    assert not stream.ended


@pytest.mark.parametrize("found", [EngineAwayError(), None])
def test_a_job_whose_state_cannot_be_told_ends_its_stream_and_its_client_comes_back(
    found: EngineAwayError | None,
) -> None:
    looked = Looked(found)
    stream, _ = stream_of(Missed(), looked)
    assert b"event: reset" in stream.take()
    looked.come()
    assert stream.take() == b""
    assert stream.ended


def test_a_reader_that_has_gone_is_not_woken() -> None:
    looked = Looked(status(State.SUCCEEDED))
    stream, woken = stream_of(Missed(), looked)
    stream.take()
    stream.close()
    looked.come()
    assert not woken


def test_a_stream_whose_job_cannot_be_looked_at_leaves_no_reader() -> None:
    feed = Missed()
    found = iter([status(State.RUNNING)])

    def peek(job: bytes, brief: bool = False) -> Status:
        for one in found:
            return one
        raise EngineAwayError

    service: Any = SimpleNamespace(engine=SimpleNamespace(peek=peek, watch=lambda wanted, after: feed))
    asked = Request(Config().limits, lambda request: request.limit, lambda _: None, lambda _: None)
    asked.method, asked.target = b"GET", b"/jobs/%b/events" % JOB
    with pytest.raises(EngineAwayError):
        of_job(service, asked, JOB)
    assert feed.is_closed
