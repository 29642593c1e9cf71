"""What a road asks of its driver: to send a request, or to pause.

A road is a generator. It yields a Send and gets a Response, or has ``Lost`` raised into it. It
yields a Pause and gets nothing. A course is a road with many values. It yields each of them as
Value, and gets nothing. It may yield a More, and gets the next part of an event stream.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Generic, Protocol, TypeAlias, TypeVar

from headway.client.errors import HeadwayError

T = TypeVar("T")

# Seconds for an answer that the server does not hold back.
READ_TIMEOUT_S = 30.0
STREAM = "text/event-stream"


class Lost(Exception):
    """No answer came.

    ``lasting``: the error to raise, since none would come the next time either.
    ``late``: the server was reached, and its answer did not come in time.
    """

    def __init__(
        self, fault: str, lasting: type[HeadwayError] | type[ValueError] | None = None, *, late: bool = False
    ) -> None:
        super().__init__(fault)
        self.lasting = lasting
        self.late = late


class Event(Protocol):
    """A threading.Event or an asyncio.Event."""

    def set(self) -> None:
        """End the pause."""

    def is_set(self) -> bool:
        """Whether the next pause ends at once."""

    def clear(self) -> None:
        """Forget that it was set."""


@dataclass(frozen=True, slots=True)
class Send:
    """A request. ``path`` begins behind the address of the server."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    read_timeout_s: float = READ_TIMEOUT_S
    # Seconds for a free connection of the client, and for the server to take it. None: any, and the usual ones.
    most_s: float | None = None
    # An answer of the media type STREAM has no content. Each More reads a part of it.
    streams: bool = False


@dataclass(frozen=True, slots=True)
class More:
    """Read the next part of the event stream that was answered last. It is empty at the end."""


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer, or a part of one. The names of ``headers`` are in lower case."""

    code: int
    headers: Mapping[str, str]
    content: bytes


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for ``seconds``, or until ``event`` is set. The driver clears it."""

    seconds: float
    event: Event | None = None


@dataclass(frozen=True, slots=True)
class Value(Generic[T]):
    """A value of a course."""

    value: T


Road: TypeAlias = Generator[Send | Pause, Response | None, T]
Step: TypeAlias = Send | Pause | More | Value[T]
Course: TypeAlias = Generator[Step[T], Response | None, None]


def within(send: Send, left_s: float) -> Send:
    """Return a request that takes no longer than the time that is left, infinity for any.

    If there is none left, it is sent once all the same.
    """
    if left_s == inf:
        return send
    most_s = left_s if left_s > 0 else READ_TIMEOUT_S
    return replace(send, read_timeout_s=min(send.read_timeout_s, most_s), most_s=most_s)


def answer_to(send: Send) -> Road[Response]:
    """Send, and return the answer. Raises Lost."""
    response = yield send
    if response is None:
        raise RuntimeError("a driver answered a request with nothing")
    return response


def part_of_stream() -> Generator[More, Response | None, bytes]:
    """Return the next part of an event stream, empty at its end. Raises Lost."""
    response = yield More()
    return b"" if response is None else response.content
