"""A connection, whatever its client sends and whenever it reads.

The same bytes are read five times: as the script has it, by a server that is free, by one that is busy
and by one that has memory for little, in one read, and by h11. Answers are read by h11 as well. What must
hold:

- Nothing is logged as an error, nothing hangs, nothing stays when the connection has ended.
- Answers are whole, in the order of the requests, one to each, and none follows the last.
- Reads, pauses, turns without time and heads that are known again change no answer.
- Requests are those that h11 reads. Where h11 stops, no more may be answered.
"""

from __future__ import annotations

import asyncio
import atexit
import re
from collections.abc import Iterable

import msgspec
from headway.core.config import Config, LimitsSection

from tests.fuzz import reading
from tests.fuzz.line import ERRORS, Line, check_clean
from tests.fuzz.mirror import Mirror, Seen
from tests.fuzz.script import Moment, steps

# Small, so that inputs of a fuzzer come to them.
LIMITS = LimitsSection(head_bytes=2048, headers=20, request_line_bytes=512, body_bytes=4096)
_DATE = re.compile(rb"Date: [^\r]*\r\n")
_REFUSED = re.compile(rb"HTTP/1\.1 (?:400|501) [A-Za-z ]*\r\nConnection: close\r\n.*\Z", re.DOTALL)
# Of a length, for h11. With more it begins with zeros, which are allowed (RFC 9110, 8.6).
DIGITS_MOST = 20
CONFIG = msgspec.structs.replace(Config(), limits=LIMITS)
TIGHT = msgspec.structs.replace(Config(), limits=msgspec.structs.replace(LIMITS, unanswered_bytes=256))


class World:
    """A loop, and the application on it."""

    def __init__(self, config: Config = CONFIG, *, is_busy: bool = False) -> None:
        self.loop = asyncio.new_event_loop()
        atexit.register(self.loop.close)
        self.loop.set_exception_handler(lambda _, context: ERRORS.told.append(repr(context)))
        self.app = self.loop.run_until_complete(Mirror.opened(config, is_busy=is_busy))

    def play(self, happens: Iterable[bytes | Moment]) -> tuple[bytes, list[Seen]]:
        """Let a script happen on a new connection. Return the answers and the requests."""
        self.app.seen.clear()
        line = Line(self.loop, self.app.connections, self.app.gate.open)
        try:
            line.play(happens)
            line.settle()
            assert line.finish(), "the client sends no more, and the connection goes on"
            check_clean(self.app.connections)
            assert self.app.gate.waiting == 0
        finally:
            line.hang_up()
            ERRORS.told.clear()
        return bytes(line.answers), self.app.seen[:]


WORLD = World()
BUSY = World(is_busy=True)
TIGHT_WORLD = World(TIGHT, is_busy=True)


def fuzz_one(data: bytes) -> None:
    """Check all that must hold for a script."""
    script = list(steps(data))
    answers, seen = WORLD.play(script)
    TIGHT_WORLD.play(script)
    answers_late, seen_late = BUSY.play(script)
    if Moment.BREAK in script:
        # Answers may be cut short, and that is all that is known of them.
        return
    until = script.index(Moment.END) if Moment.END in script else len(script)
    whole = b"".join(step for step in script[:until] if isinstance(step, bytes))
    check_answers(answers, seen, whole)
    assert seen_late == seen, "in its turn it is another request"
    assert _lasting(answers_late) == _lasting(answers), "in its turn it is another answer"
    answers_whole, seen_whole = WORLD.play([whole])
    assert seen_whole == seen, "read by read it is another request"
    assert _lasting(answers_whole) == _lasting(answers), "read by read it is another answer"
    theirs = list(reading.requests(whole))
    if len(seen) > len(theirs):
        refused = seen[len(theirs)]
        assert len(dict(refused.headers).get(b"content-length", b"")) > DIGITS_MOST, f"h11 does not take {refused}"
    for our, their in zip(seen, theirs, strict=False):
        assert _compared(our, their) == _compared(their, their), f"h11 reads {their} for {our}"


def _lasting(answers: bytes) -> bytes:
    """Return answers without their time, and without the reason of a last one to something that is no request.

    Whether a request line has no method or an unknown one is told by the reads around it, since the
    parser does not say where it stopped.
    """
    return _REFUSED.sub(b"refused", _DATE.sub(b"", answers))


def _compared(seen: Seen, theirs: Seen) -> Seen:
    """Return a request without what the two tell in other words.

    h11 tells a Transfer-Encoding in lower case. Of a request with an Upgrade the connection leaves out
    the fields that ask for it (RFC 9110, 7.8).
    """
    hops = {b"connection", b"upgrade"} if b"upgrade" in dict(theirs.headers) else set()
    headers = (
        (name, value.lower() if name == b"transfer-encoding" else value)
        for name, value in seen.headers
        if name not in hops
    )
    return seen._replace(headers=tuple(headers))


def check_answers(raw: bytes, seen: list[Seen], data: bytes) -> None:
    """See that ``raw`` answers the requests, in their order, and at most one thing that is no request."""
    found = reading.answers(raw, [request.method for request in seen], b"HEAD" in data)
    assert len(found) >= len(seen), "a request has no answer"
    for number, (request, answer) in enumerate(zip(seen, found, strict=False)):
        if answer.status == 200:
            assert answer.headers[b"seen"] == b"%d %b" % (number, request.digest), (request, answer)
        else:
            assert (answer.status, request.target[1:2]) == (404, b"n"), (request, answer)
    for answer in found[len(seen) :]:
        assert 400 <= answer.status <= 505, answer
        assert answer.headers[b"connection"] == b"close", answer
