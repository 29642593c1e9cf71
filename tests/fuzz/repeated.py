"""What follows a known head gets the answer that it gets on a connection of its own.

The first step of a script is sent twice, so that its head is known. Then the second is sent, and has to
be answered as on a fresh connection of another server, to which the same has happened.
"""

from __future__ import annotations

import re

from tests.fuzz.script import steps
from tests.fuzz.service import World

TEACH = 2
# What two servers, or two moments, differ in: times, ids, and headers that follow from the time.
_VARIES = re.compile(
    rb"(?<=^Date: )[^\r]*|(?<=^Expires: )[^\r]*|(?<=^Sunset: )[^\r]*|(?<=^Server-Timing: )[^\r]*|[0-9a-f]{36,40}"
    rb"|(?<=^Retry-After: )\d+|(?<=^Retry-After-Ms: )\d+|\d{4}-\d\d-\d\dT[0-9:.]*Z|[0-9.]+(?=,\"run|e-)",
    re.MULTILINE,
)
_ANSWER = re.compile(rb"^HTTP/1\.1 ([2-5]\d\d) ", re.MULTILINE)


class Pair:
    """A server whose clients keep their connection, and one whose clients do not."""

    def __init__(self) -> None:
        self.kept, self.fresh = World(), World()
        self.asked = 0

    def close(self) -> None:
        """End both."""
        self.kept.close()
        self.fresh.close()


# Begun anew now and then: what happened to both grows apart with the time.
INPUTS_MOST = 2000
PAIR: list[Pair] = []


def _pair() -> Pair:
    if PAIR and PAIR[0].asked >= INPUTS_MOST:
        PAIR.pop().close()
    if not PAIR:
        PAIR.append(Pair())
    PAIR[0].asked += 1
    return PAIR[0]


def fuzz_one(data: bytes) -> None:
    """Check that an input is answered the same on both."""
    script = [step for step in steps(data) if isinstance(step, bytes)]
    if len(script) != 2:
        return
    first, second = script
    pair = _pair()
    try:
        _compare(pair, first, second)
    except BaseException:
        PAIR.pop().close()
        raise


def _compare(pair: Pair, first: bytes, second: bytes) -> None:
    line, told = pair.kept.line(), 0
    try:
        for _ in range(TEACH):
            line.play([pair.kept.named(first)])
            line.settle()
            ours, told = pair.kept.forgotten(bytes(line.answers[told:])), len(line.answers)
            pair.fresh.ask(pair.fresh.named(first))
            if not _ANSWER.search(ours) or not line.connection.free:
                # It is no request alone, or ends the connection: nothing is known by it.
                return
        line.play([pair.kept.named(second)])
        line.settle()
        line.finish()
    finally:
        line.hang_up()
    ours = pair.kept.forgotten(bytes(line.answers[told:]))
    pair.kept.check_clean()
    theirs = pair.fresh.ask(pair.fresh.named(second))
    assert _VARIES.sub(b"?", ours) == _VARIES.sub(b"?", theirs), f"{second!r} after {first!r}: {ours!r}, not {theirs!r}"
