"""How things stand in the engine, apart from its rows. Gateways go by it between two calls."""

from __future__ import annotations

import msgspec
from headway.core.durability import Durability
from headway.core.hold import TaskHold
from headway.core.ids import Salts
from headway.core.interface import Accepts


class Hello(msgspec.Struct, array_like=True, gc=False):
    """What does not change while the engine runs. The rows come beside it, as a file; without them none are read."""

    # Of the program, as ``fingerprint`` makes it. One of another program may write other frames.
    program: str
    durability: Durability
    secret: bytes
    salts: Salts
    since: int
    rows: int
    annex: int
    kept_jobs: tuple[int, ...]
    # The tasks by the index that the rows have of them, with those of earlier programs.
    names: list[str]
    accepts: dict[str, Accepts]
    # How many of these are tasks of the program, and how many the server's own.
    tasks: int
    own: int
    workers: int
    # By task of the two kinds, the number of its line, and the index of the line in which its jobs stand as a rule.
    line_numbers: list[int]
    usual: list[int]


class RingStanding(msgspec.Struct, array_like=True, gc=False):
    """A ring of a line, with its first and its last job."""

    priority: int = 0
    head: int = 0
    tail: int = 0
    entries: int = 0
    first: int = 0
    last: int = 0


class LineStanding(msgspec.Struct, array_like=True, gc=False):
    """A line of ready jobs."""

    number: int
    is_aside: bool
    # The indexes of its limits.
    limits: list[int]
    # Those with jobs.
    rings: list[RingStanding]


class Standing(msgspec.Struct, array_like=True, gc=False):
    """How things stand at one moment."""

    not_ready: str | None
    draining: bool
    full: bool
    room: int
    size: int
    # Bytes of payload for which there is room.
    payload_room: int
    running: int
    ready: int
    # (most, running) of each limit on jobs at once.
    limits: list[tuple[int, int]]
    # As ``Queue.seen`` returns them.
    lines: list[LineStanding]
    # By task: the index of the line of one that is held, or was and whose line is not empty yet.
    apart: dict[int, int]
    # Jobs of higher priorities that become ready in a second, by priority.
    above: list[float]
    holds: dict[int, TaskHold]


# Of the frames between the two, and of the rows.
encode = msgspec.msgpack.Encoder().encode
decode_standing = msgspec.msgpack.Decoder(Standing).decode
decode_messages = msgspec.msgpack.Decoder(dict[int, str]).decode
decode_hello = msgspec.msgpack.Decoder(Hello).decode
