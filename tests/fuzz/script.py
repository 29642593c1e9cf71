"""What happens to a connection, as bytes: what a client sends, with moments between.

MARK and a letter stand for a moment. All other bytes are sent, MARK before any other byte, too. So a
fuzzer changes requests and moments alike, and a seed can be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum

MARK = b"\xfe"


class Moment(Enum):
    """What happens between two reads."""

    # The bytes before and after come in two reads.
    CUT = b"|"
    # A turn of the loop passes.
    TURN = b"t"
    # The client takes no answers from now on, or takes them again.
    PAUSE = b"p"
    RESUME = b"r"
    # The client sends no more.
    END = b"e"
    # The answers that wait can be given.
    WAKE = b"w"
    # The connection breaks.
    BREAK = b"x"
    # A second passes.
    TICK = b"s"


_MOMENTS = re.compile(MARK + b"([%b])" % re.escape(b"".join(moment.value for moment in Moment)))


def marked(*steps: bytes | Moment) -> bytes:
    """Return steps as bytes."""
    return b"".join(MARK + step.value if isinstance(step, Moment) else step for step in steps)


def steps(script: bytes) -> Iterator[bytes | Moment]:
    """Return what is sent, and the moments between."""
    for number, piece in enumerate(_MOMENTS.split(script)):
        if number % 2:
            yield Moment(piece)
        elif piece:
            yield piece
