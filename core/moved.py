"""All that an engine has, as values and as lines of JSON: the way from one engine to another.

The first line is the queue: the secret of its ids, its counts, its switches. So whoever has the
lines can make ids. The others are its jobs, its batches and its keys, in any order. The last line
counts those before it: lines that were cut off would be jobs that nobody misses. Times are of
time.time, in seconds. Bytes are in base64.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO

import msgspec
from headway.core.errors import MoveError
from headway.core.hold import TaskHold
from headway.core.job import State, Terms
from headway.core.job_log import JobLog
from headway.core.past_attempt import PastAttempt

# Of the lines. A change of them that an older program would read wrongly raises it.
VERSION = 1


class MovedQueue(msgspec.Struct, tag="queue", tag_field="line", kw_only=True):
    """What is said once of a queue."""

    version: int = VERSION
    secret: bytes
    # (number, salt): see core/ids.py.
    salts: list[tuple[int, bytes]] = []
    # No job has a higher number.
    high: int
    # The jobs of a batch are so far apart.
    partitions: int = 1
    # By task: its jobs that ever succeeded, failed and were cancelled.
    ended: dict[str, tuple[int, int, int]] = {}
    holds: dict[str, TaskHold] = {}


class MovedJob(msgspec.Struct, tag="job", tag_field="line", kw_only=True, omit_defaults=True):
    """A job, unfinished or kept."""

    sequence: int
    state: State
    task: str
    priority: int
    terms: Terms
    submitted: float
    # Attempts that were begun, and the last of them.
    attempt: int = 0
    started: float | None = None
    # When it is ready, if it was ever delayed.
    due: float | None = None
    ended: float | None = None
    # Until when it is kept, once it has ended.
    until: float | None = None
    reason: int = 0
    # The number of its first job, and how many it has. None: it came alone.
    batch: tuple[int, int] | None = None
    # None: it is not kept.
    payload: bytes | None = None
    # Whether it has ever had a result or an error, and that: media type and body. None: not kept.
    has_result: bool = False
    result: tuple[str, bytes] | None = None
    attempts: list[PastAttempt] = []
    log: JobLog | None = None
    # Of an order about many jobs: the last job that it has handled in each partition. Empty: in the only
    # one, as its payload has it.
    reached: list[int] = []


class MovedBatch(msgspec.Struct, tag="batch", tag_field="line", kw_only=True):
    """A batch of which a job is kept or unfinished. ``failed`` and ``cancelled`` count jobs that are gone, too."""

    first: int
    count: int
    failed: int
    cancelled: int


class MovedKey(msgspec.Struct, tag="key", tag_field="line", kw_only=True):
    """An idempotency key: the job that it stands for, or the first of a batch of ``count``."""

    text: str
    sequence: int
    digest: bytes
    # When it was used first.
    submitted: float
    # 0: a job alone.
    count: int = 0


class MovedEnd(msgspec.Struct, tag="end", tag_field="line"):
    """The last line: how many are before it."""

    lines: int


Moved = MovedQueue | MovedJob | MovedBatch | MovedKey

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Moved | MovedEnd).decode


def write(moved: Iterable[Moved], out: BinaryIO) -> int:
    """Write lines. Return how many of them are jobs."""
    lines = jobs = 0
    for one in moved:
        out.write(_encode(one) + b"\n")
        lines += 1
        jobs += isinstance(one, MovedJob)
    out.write(_encode(MovedEnd(lines)) + b"\n")
    return jobs


def read(name: str, lines: Iterable[bytes]) -> Iterator[Moved]:
    """Yield what lines have, the queue first. Raises MoveError with the ``name`` of the file."""
    at, end = 0, None
    for at, line in enumerate(lines, 1):
        try:
            one = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            wanted = "an export by headway engine export --whole, or a journal"
            raise MoveError(f"{name}: line {at} is not a line of {wanted}: {error}") from None
        if isinstance(one, MovedQueue) != (at == 1):
            raise MoveError(f"{name}: line {at}: the queue has to be the first line, and no other")
        if isinstance(one, MovedQueue) and one.version != VERSION:
            raise MoveError(
                f"{name}: has version {one.version} and this program knows {VERSION}. Import it with the program "
                "that wrote it"
            )
        if end is not None:
            raise MoveError(f"{name}: line {at}: there is more after the last line")
        if isinstance(one, MovedEnd):
            end = one
        else:
            yield one
    if not at:
        raise MoveError(f"{name}: is empty")
    if end is None or end.lines != at - 1:
        raise MoveError(f"{name}: has not all lines of its export: copy or export it again")
