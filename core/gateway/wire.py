"""The messages between a gateway and its engine, on a Unix socket, in frames.

A frame is a length in 4 bytes, a kind in one, and a number in 8, big-endian, then a message in MessagePack. A
gateway sends CALL with a number of its own, the name of a method of core/interface.py, and its arguments. The
engine answers with one VALUE or one FAULT under that number, in any order. The types of all of them are those of
the interface.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from operator import attrgetter
from struct import Struct as Layout
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
from headway.core import counted, errors
from headway.core.audit import Act
from headway.core.body import Body
from headway.core.errors import HeadwayError, InvalidError
from headway.core.events import EventFilter
from headway.core.gateway.feeds import SentFeed
from headway.core.hold import Switches
from headway.core.interface import Engine, Feed, Later
from headway.core.job import ContentSubmission, Submission
from headway.core.stats import Histogram
from headway.core.tasks.result import Result

# Length of the message, kind, number.
HEAD = Layout(">IBQ")
# The longest message: a result has up to 1 GiB, and its frame a little more.
MESSAGE_BYTES = (1 << 30) + (1 << 20)

# From a gateway: a call; that its client hurries, or has gone; that a reader has taken its events; what was counted
# there; and that it keeps its calls for the next program.
CALL = 1
HURRY = 2
CANCEL = 3
TAKEN = 4
COUNTED = 5
PAUSED = 6
# From the engine: the answers to a call; the next events of a reader; how things are; the run times that were
# learnt; that a deploy begins; what does not change; and the messages beside the progress of running jobs.
VALUE = 16
FAULT = 17
EVENTS = 18
OUTLOOK = 19
RUN_TIMES = 20
PAUSE = 21
HELLO = 22
SAID = 23

# The calls that a gateway makes. It answers the others by itself.
CALLS = (
    *("peek", "peek_key", "peek_batch", "find", "recent_batches", "list_batch", "tasks", "task", "switch", "revise"),
    *("errors", "result", "payload", "attempts", "log", "wait_log", "wait", "wait_batch", "watch"),
    *("replay", "replay_batch", "submit", "submit_batch", "retry", "order", "count_meant", "cancel", "cancel_batch"),
    *("note", "audit", "history", "counts"),
    # Of no engine: the counts of the other gateways.
    "others",
)
# Those that wait for jobs.
WAITING = frozenset(("wait", "wait_batch", "wait_log"))
# Those that change something. If the engine ends before it has answered, nobody knows whether they did.
CHANGING = frozenset(("switch", "revise", "submit", "submit_batch", "retry", "order", "cancel", "cancel_batch", "note"))


# The members of a submission but its payload, and its media type.
_OTHERS = (*(name for name in Submission.__struct_fields__ if name != "payload"), "media_type")
_others = attrgetter(*_OTHERS)
# A submission, whose payload is no MessagePack.
SentSubmission = msgspec.defstruct(
    "SentSubmission",
    [("payload", bytes), *((name, get_type_hints(ContentSubmission)[name]) for name in _OTHERS)],
    frozen=True,
    array_like=True,
    gc=False,
)


def _sent(given: Submission) -> msgspec.Struct:
    """Return ``given`` as it is sent."""
    return SentSubmission(bytes(given.payload), *_others(given))


def _given(sent: Any) -> Submission:
    """Return a submission as it was given."""
    task, *others = _others(sent)
    if sent.media_type:
        return ContentSubmission(task, sent.payload, *others)
    return Submission(task, msgspec.Raw(sent.payload), *others[:-1])


class SentFault(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An error of core/errors.py: its class, its line, and its members."""

    kind: str
    arguments: list[Any]
    members: dict[str, Any]

    @classmethod
    def of(cls, error: HeadwayError) -> SentFault:
        """Return ``error`` as it is sent."""
        return cls(type(error).__name__, list(error.args), vars(error))

    def error(self) -> HeadwayError:
        """Return the error."""
        kind = getattr(errors, self.kind, HeadwayError)
        error: HeadwayError = kind.__new__(kind, *self.arguments)
        error.args = tuple(self.arguments)
        vars(error).update(self.members)
        if isinstance(error, InvalidError):
            error.faults = [(place, fault) for place, fault in error.faults]
        return error


def _put(value: object) -> object:
    """Return what stands for a value that is no struct."""
    if isinstance(value, Result):
        return value.body, value.media_type
    if isinstance(value, Body):
        return value.data, value.media_type
    if isinstance(value, Histogram):
        return value.buckets, value.sum
    raise TypeError(type(value).__name__)


def _got(kind: type, value: Any) -> object:
    """Return the value for which ``value`` stands."""
    if kind is Histogram:
        histogram = Histogram()
        histogram.buckets, histogram.sum = value
        return histogram
    return kind(*value)


encode = msgspec.msgpack.Encoder(enc_hook=_put).encode
decode_fault = msgspec.msgpack.Decoder(SentFault).decode


def frame(kind: int, number: int, message: bytes = b"") -> bytes:
    """Return the bytes of a frame."""
    return HEAD.pack(len(message), kind, number) + message


@cache
def sent_arguments(name: str) -> Callable[[Sequence[Any]], bytes]:
    """Return a function that writes the arguments of a call of ``name``."""
    encoded = encode
    begin = bytes([CALLS.index(name)])
    if name == "submit":
        return lambda given: begin + encoded((_sent(given[0]), *given[1:]))
    if name == "submit_batch":
        return lambda given: begin + encoded(([_sent(one) for one in given[0]], *given[1:]))
    if name == "switch":
        # A time of the year 9999 has no place in MessagePack.
        return lambda given: begin + encoded((given[0], msgspec.json.encode(given[1]), given[2]))
    if name == "watch":
        return lambda given: begin + encoded((given[0], None if given[1] is None else f"{given[1]:x}"))
    return lambda given: begin + encoded(given)


@cache
def read_arguments(name: str) -> Callable[[memoryview | bytes], Sequence[Any]]:
    """Return a function that reads the arguments of a call of ``name``, behind the byte that names it."""
    if name == "others":
        return lambda data: ()
    hints = get_type_hints(getattr(Engine, name))
    hints.pop("return")
    kinds = list(hints.values())
    if name == "submit":
        decode_one = msgspec.msgpack.Decoder(tuple[(SentSubmission, *kinds[1:])]).decode  # type: ignore[misc,valid-type]
        return lambda data: _one(decode_one(data))
    if name == "submit_batch":
        decode_some = msgspec.msgpack.Decoder(tuple[(list[SentSubmission], *kinds[1:])]).decode  # type: ignore[misc,valid-type]
        return lambda data: _some(decode_some(data))
    if name == "switch":
        decode_switch = msgspec.msgpack.Decoder(tuple[str, bytes, Act | None]).decode
        return lambda data: _switch(*decode_switch(data))
    if name == "watch":
        decode_watch = msgspec.msgpack.Decoder(tuple[EventFilter, str | None]).decode
        return lambda data: _watch(*decode_watch(data))
    return msgspec.msgpack.Decoder(tuple[tuple(kinds)], dec_hook=_got).decode  # type: ignore[misc]


def _switch(task: str, switches: bytes, act: Act | None) -> Sequence[Any]:
    return task, msgspec.json.decode(switches, type=Switches), act


def _watch(wanted: EventFilter, after: str | None) -> Sequence[Any]:
    return wanted, None if after is None else int(after, 16)


def _one(given: Sequence[Any]) -> Sequence[Any]:
    return _given(given[0]), *given[1:]


def _some(given: Sequence[Any]) -> Sequence[Any]:
    return [_given(sent) for sent in given[0]], *given[1:]


@cache
def read_value(name: str) -> Callable[[memoryview | bytes], Any]:
    """Return a function that reads the value of a call of ``name``."""
    if name == "others":
        return counted.decode
    kind = _value_of(get_type_hints(getattr(Engine, name))["return"])
    return msgspec.msgpack.Decoder(SentFeed if kind is Feed else kind, dec_hook=_got).decode


def _value_of(hint: Any) -> Any:
    """Return the type of the value in ``Soon[…]`` or ``Later[…]``."""
    if get_origin(hint) is Later:
        return get_args(hint)[0]
    if get_origin(hint) in (Union, UnionType):
        kinds = [kind for kind in get_args(hint) if get_origin(kind) is not Later]
        return kinds[0] if len(kinds) == 1 else Union[tuple(kinds)]  # noqa: UP007 — as many as there are
    return hint
