"""Results within a byte budget, the oldest given up first.

Jobs end in the order in which their results come, so the first entry of the dict is always the oldest and trimming
is a walk from the front. What is dropped here is answered 410 for as long as its job can be read.
"""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Iterable, Iterator
from io import BytesIO

import msgspec
from headway.core.board import Board
from headway.core.encoding import NotJsonError, dumps, slices
from headway.core.job import Job
from headway.core.oldest import Oldest
from headway.core.slices import SHORT_SLICE_S, make, make_on_loop

JSON = "application/json"
OCTETS = "application/octet-stream"
# Each entry's own cost on top of its body, by which a flood of tiny results stays within the budget too.
ENTRY_BYTES = 300
# Bytes that are copied at once: 0.3 ms.
PIECE_BYTES = 1 << 20
# RFC 9110, 8.3.1: type/subtype, then parameters; printable ASCII, so that it cannot end its header line.
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(;[ -~]*)?", re.ASCII)


class ResultError(Exception):
    """What a task returned cannot be a result; the message is for the task's author."""


class Result:
    """A body with its media type: what a task returns when it is not a JSON value, and what is kept of a job.

    A ``str`` is kept as UTF-8. Raises ResultError where either cannot be served.
    """

    __slots__ = ("body", "media_type")

    def __init__(self, body: bytes | str, media_type: str = OCTETS) -> None:
        if isinstance(body, str):
            try:
                body = body.encode()
            except UnicodeEncodeError as error:
                raise ResultError(f"returned a str that UTF-8 cannot hold: {error}") from None
        if not isinstance(body, bytes):
            raise ResultError(f"returned a Result whose body is {type(body).__name__}, not bytes or str")
        if not isinstance(media_type, str) or not _MEDIA_TYPE.fullmatch(media_type):
            raise ResultError(f"returned a Result whose media type is {media_type!r}, not one such as 'image/png'")
        self.body = body
        self.media_type = media_type

    def __repr__(self) -> str:
        return f"<Result {len(self.body)} bytes of {self.media_type}>"


# A union would be made at each look.
WHOLE = (Result, bytes)
BUFFERS = (bytearray, memoryview)


def encode(value: object, most_bytes: int) -> Result | None:
    """Turn what a task returned into a result; None for None, which is served as ``null`` and not stored.

    For threads: a large value takes its time, but the event loop may have the interpreter meanwhile.
    Raises ResultError where it cannot be encoded, is over ``most_bytes``, or its media type is not one.
    """
    if value is None:
        return None
    return _small(value, most_bytes) or make(_large(value, most_bytes))


async def encode_on_loop(value: object, most_bytes: int) -> Result | None:
    """Do the same on the event loop, a slice in each turn."""
    if value is None:
        return None
    return _small(value, most_bytes) or await make_on_loop(_large(value, most_bytes))


def _small(value: object, most_bytes: int) -> Result | None:
    """Return the result of a value that is encoded in one go; None for one that takes pieces."""
    if isinstance(value, WHOLE):
        result = value if isinstance(value, Result) else Result(value, OCTETS)
        _check_size(len(result.body), most_bytes)
        return result
    if isinstance(value, BUFFERS):
        size = memoryview(value).nbytes
        _check_size(size, most_bytes)
        return Result(bytes(value), OCTETS) if size <= PIECE_BYTES else None
    try:
        body = dumps(value)
    except NotJsonError as error:
        raise ResultError(f"returned {type(value).__name__}, which {error}") from None
    if body is None:
        return None
    _check_size(len(body), most_bytes)
    # Copied: orjson cuts its bytes from a buffer, of which the rest is of no use for as long as they are kept.
    return Result(bytes(memoryview(body)), JSON)


def _large(value: object, most_bytes: int) -> Generator[None, None, Result]:
    """Encode what takes pieces; yield every SHORT_SLICE_S."""
    body, until = BytesIO(), time.monotonic() + SHORT_SLICE_S
    for piece in _pieces(value):
        _add(piece, body, most_bytes)
        if time.monotonic() >= until:
            yield
            until = time.monotonic() + SHORT_SLICE_S
    return Result(body.getvalue(), OCTETS if isinstance(value, BUFFERS) else JSON)


def _pieces(value: object) -> Iterator[bytes | memoryview]:
    """Return the body of a large value, bytes or JSON, in pieces."""
    if isinstance(value, BUFFERS):
        view = memoryview(value)
        octets = view.cast("B") if view.c_contiguous else memoryview(bytes(view))
        for begin in range(0, len(octets), PIECE_BYTES):
            yield octets[begin : begin + PIECE_BYTES]
        return
    try:
        yield from slices(value)
    except NotJsonError as error:
        raise ResultError(f"returned {type(value).__name__}, which {error}") from None
    except RuntimeError as error:
        raise ResultError(f"returned {type(value).__name__}, which changed while it was encoded: {error}") from None


def _add(piece: bytes | memoryview, body: BytesIO, most_bytes: int) -> None:
    """Append to ``body``, which in the end gives its bytes away without a copy."""
    body.write(piece)
    if body.tell() > most_bytes:
        _check_size(f"more than {most_bytes}", most_bytes)


def _check_size(size: int | str, most_bytes: int) -> None:
    if isinstance(size, str) or size > most_bytes:
        raise ResultError(f"returned {size} bytes; results.max_result_bytes in config.yaml allows {most_bytes}")


class Kept(msgspec.Struct, gc=False):
    """What is kept of a job that is over: its result, or of one that failed what it said and how to send it again."""

    result: Result
    job: Job | None

    @property
    def size_bytes(self) -> int:
        """Bytes that count towards the budget."""
        return ENTRY_BYTES + len(self.result.body) + (len(self.job.payload) if self.job else 0)


class Results:
    """The results of jobs that can still be read, by sequence number."""

    def __init__(self, board: Board, max_bytes: int) -> None:
        self._board = board
        self.max_bytes = max_bytes
        self.used_bytes = 0
        # Results given up to stay within the budget, before their job expired.
        self.evicted = 0
        self._kept: dict[int, Kept] = {}
        self._oldest = Oldest(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, sequence: int, result: Result, job: Job | None = None) -> None:
        """Keep the result of a job that has just ended, giving up the oldest ones if they do not all fit."""
        kept = self._kept[sequence] = Kept(result, job)
        self.used_bytes += kept.size_bytes
        while self.used_bytes > self.max_bytes:
            oldest = self._oldest.first()
            assert oldest is not None
            self.forget(oldest)
            self.evicted += 1

    def get(self, sequence: int) -> Kept | None:
        """Return what is kept, or None where it was given up."""
        return self._kept.get(sequence)

    def items(self) -> Iterable[tuple[int, Kept]]:
        """Return (sequence, what is kept) of each job, the oldest first."""
        return self._kept.items()

    def forget(self, sequence: int) -> bool:
        """Drop what is kept of one job; False where nothing is."""
        kept = self._kept.pop(sequence, None)
        if kept is None:
            return False
        self.used_bytes -= kept.size_bytes
        return True

    def trim(self, now: float) -> Iterator[None]:
        """Drop what is kept of jobs that can no longer be read, one a step."""
        while (sequence := self._oldest.first()) is not None:
            row = self._board.row(sequence)
            if row >= 0 and self._board.kept(row, now):
                return
            self.forget(sequence)
            yield
