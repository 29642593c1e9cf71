"""What follows a known head gets the answer that it gets on a connection of its own.

The first step of a script is sent twice, so that its head is known. Then the second is sent, and has to
be answered as on a fresh connection of another server, to which the same has happened. So it has with
an engine that tells nothing at once.
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


class Servers:
    """Two servers whose clients keep their connection, one of them with a late engine, and one whose clients do not."""

    def __init__(self) -> None:
        self.kept = World(), World(is_late=True)
        self.fresh = World()
        self.asked = 0

    def close(self) -> None:
        """End all."""
        for world in (*self.kept, self.fresh):
            world.close()


# Begun anew now and then: what happened to each grows apart with the time.
INPUTS_MOST = 2000
SERVERS: list[Servers] = []


def _servers() -> Servers:
    if SERVERS and SERVERS[0].asked >= INPUTS_MOST:
        SERVERS.pop().close()
    if not SERVERS:
        SERVERS.append(Servers())
    SERVERS[0].asked += 1
    return SERVERS[0]


def fuzz_one(data: bytes) -> None:
    """Check that an input is answered the same on all."""
    script = [step for step in steps(data) if isinstance(step, bytes)]
    if len(script) != 2:
        return
    servers = _servers()
    try:
        _compare(servers, *script)
    except BaseException:
        SERVERS.pop().close()
        raise


def _compare(servers: Servers, first: bytes, second: bytes) -> None:
    kept = [_kept(world, first, second) for world in servers.kept]
    (taught, _), (taught_late, _) = kept
    if taught != taught_late:
        # One of them had no time for the whole answer in the turns of ``settle``. What happened to them differs.
        SERVERS.pop().close()
        return
    for _ in range(taught):
        servers.fresh.ask(servers.fresh.named(first))
    if any(ours is None for _, ours in kept):
        return
    theirs = servers.fresh.ask(servers.fresh.named(second))
    for _, ours in kept:
        told = f"{second!r} after {first!r}: {ours!r}, not {theirs!r}"
        assert _VARIES.sub(b"?", ours or b"") == _VARIES.sub(b"?", theirs), told


def _kept(world: World, first: bytes, second: bytes) -> tuple[int, bytes | None]:
    """Return how often ``first`` was sent, and the answer to ``second``. None if no head is known."""
    line, told = world.line(), 0
    try:
        for number in range(1, TEACH + 1):
            line.play([world.named(first)])
            world.settle(line)
            ours, told = world.forgotten(bytes(line.answers[told:])), len(line.answers)
            if not _ANSWER.search(ours) or not line.connection.free:
                # It is no request alone, or ends the connection: nothing is known by it.
                return number, None
        line.play([world.named(second)])
        world.settle(line)
        line.finish()
    finally:
        line.hang_up()
    answer = world.forgotten(bytes(line.answers[told:]))
    world.check_clean()
    return TEACH, answer
