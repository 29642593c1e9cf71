"""Results: the values that tasks return, as bytes with a media type.

Large values are encoded in slices. Between two slices the event loop gets the interpreter if they
are encoded in a thread, and a turn if they are encoded on the loop. Bodies are copied in pieces
too.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from io import BytesIO

from headway.core.body import JSON, OCTETS, is_media_type
from headway.core.slices import SHORT_SLICE_S, make, make_on_loop
from headway.core.tasks.encoding import NotJsonError, dumps, slices

# Bytes that are copied at once: 0.3 ms.
PIECE_BYTES = 1 << 20


class ResultError(Exception):
    """A return value cannot be a result. The message is for the author of the task."""


class Result:
    """A body with its media type: a task returns one instead of a JSON value, and jobs keep one.

    A ``str`` is kept as UTF-8. Raises ResultError if body or media type cannot be served.
    """

    __slots__ = ("body", "media_type")

    def __init__(self, body: bytes | str, media_type: str = OCTETS) -> None:
        if isinstance(body, str):
            try:
                body = body.encode()
            except UnicodeEncodeError as error:
                raise ResultError(f"returned a str that UTF-8 cannot hold: {error}") from None
        if not isinstance(body, bytes):
            raise ResultError(f"returned a Result with a body of type {type(body).__name__}, not bytes or str")
        if not isinstance(media_type, str) or not is_media_type(media_type):
            raise ResultError(f"returned a Result of media type {media_type!r}, which is not one such as 'image/png'")
        self.body = body
        self.media_type = media_type

    def __repr__(self) -> str:
        return f"<Result {len(self.body)} bytes of {self.media_type}>"


# Tuples: a union would be made at each look.
WHOLE = (Result, bytes)
BUFFERS = (bytearray, memoryview)


def encode(value: object, most_bytes: int) -> Result | None:
    """Turn the return value of a task into a result.

    None stays None: it is served as ``null`` and not stored.

    For threads: a large value takes its time, but the event loop may have the interpreter
    meanwhile. Raises ResultError if the value cannot be encoded or is over ``most_bytes``.
    """
    if value is None:
        return None
    return encode_small(value, most_bytes) or make(_large(value, most_bytes))


async def encode_on_loop(value: object, most_bytes: int) -> Result | None:
    """Do the same on the event loop, a slice in each turn."""
    if value is None:
        return None
    return encode_small(value, most_bytes) or await make_on_loop(_large(value, most_bytes))


def encode_small(value: object, most_bytes: int) -> Result | None:
    """Return the result of a value that is encoded at once, None for one that takes pieces, or for None."""
    if isinstance(value, WHOLE):
        # Anew: the task may have changed its own since.
        result = Result(value.body, value.media_type) if isinstance(value, Result) else Result(value, OCTETS)
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
    # Copied: orjson cuts its bytes from a buffer, and would keep the useless rest of it as long.
    return Result(bytes(memoryview(body)), JSON)


def _large(value: object, most_bytes: int) -> Generator[None, None, Result]:
    """Encode a value that takes pieces, and yield every SHORT_SLICE_S."""
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
    """Append to ``body``, which gives its bytes away without a copy at the end."""
    body.write(piece)
    if body.tell() > most_bytes:
        _check_size(f"more than {most_bytes}", most_bytes)


def _check_size(size: int | str, most_bytes: int) -> None:
    if isinstance(size, str) or size > most_bytes:
        raise ResultError(f"returned {size} bytes: results.max_result_bytes in config.yaml allows {most_bytes}")
