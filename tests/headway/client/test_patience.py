"""When a request without a useful answer is repeated. No pause is waited for."""

from __future__ import annotations

import threading
from math import inf

import pytest

from headway.client.errors import QueueFull, Unavailable
from headway.client.exchange import Pause, Response, Send, within
from headway.client.patience import Patience
from headway.client.roads import Handle, Roads
from headway.client.settings import timeout

ID = "7b9f21c4000000000002f95fbb0a2f0f8d2c"


def pause(patience: Patience, response: Response | None = None) -> float:
    """Return the seconds of the next pause."""
    (step,) = patience.pause("a fault", response)
    assert isinstance(step, Pause)
    return step.seconds


def busy(**fields: str) -> Response:
    """Return a 503 with these header fields."""
    return Response(503, {name.replace("_", "-"): value for name, value in fields.items()}, b"")


@pytest.mark.parametrize(
    ("response", "seconds"),
    [
        (busy(retry_after_ms="2000", retry_after="9"), 2.0),
        (busy(retry_after="2"), 2.0),
        (busy(retry_after_ms="5"), 0.005),
    ],
)
def test_a_crowd_comes_back_after_the_time_that_it_was_told_and_spread(response: Response, seconds: float) -> None:
    patience = Patience(1e9, inf)
    found = [pause(patience, response) for _ in range(100)]
    assert seconds <= min(found)
    assert max(found) <= seconds * 1.1
    assert max(found) - min(found) > seconds * 0.03


@pytest.mark.parametrize("response", [None, busy(), busy(retry_after="0")])
def test_without_a_time_the_pause_doubles_from_one_second_to_eight(response: Response | None) -> None:
    crowd = [Patience(1e9, inf) for _ in range(100)]
    for seconds in (1, 2, 4, 8, 8, 8):
        found = [pause(patience, response) for patience in crowd]
        assert seconds <= min(found)
        assert max(found) <= seconds * 1.5
        assert max(found) - min(found) > seconds * 0.15


@pytest.mark.parametrize(
    ("said", "error"), [(b'{"type":"urn:headway:problem:queue-full"}', QueueFull), (b"{}", Unavailable)]
)
def test_a_pause_that_would_be_too_long_is_not_begun(said: bytes, error: type[Exception]) -> None:
    response = Response(429, {"retry-after": "3", "content-type": "application/problem+json"}, said)
    with pytest.raises(error, match="patience=2 allows no further try: a fault"):
        pause(Patience(2, inf), response)


def test_a_wait_gives_the_server_more_time_than_it_asks_it_to_wait() -> None:
    road = Roads("http://127.0.0.1:8080", 30, 50).wait(Handle(ID), threading.Event(), None)
    send = next(road)
    assert isinstance(send, Send)
    name, _, seconds = send.headers["Prefer"].partition("=")
    assert name == "wait"
    assert send.read_timeout_s >= int(seconds) + 5
    road.close()


def test_no_part_of_a_request_has_more_time_than_there_is() -> None:
    found = timeout(within(Send("GET", "/", read_timeout_s=40.0), 0.5))
    assert (found.connect, found.read, found.write, found.pool) == (0.5, 0.5, 0.5, 0.5)
    unbounded = timeout(within(Send("GET", "/", read_timeout_s=40.0), inf))
    assert (unbounded.read, unbounded.pool) == (40.0, None)
