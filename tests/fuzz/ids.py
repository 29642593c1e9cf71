"""Anything in the place of an id: no exception, and never the answer of another job.

The first byte of an input chooses the route. In the rest, names such as ``$S`` stand for ids of jobs.
"""

from __future__ import annotations

import json
import re
from urllib.parse import unquote_to_bytes

from tests.fuzz import reading
from tests.fuzz.service import BATCH, KEY, STATES, World

JOBS = b"/jobs/"
# Method and end of the path, by the first byte.
ROUTES = (
    (b"GET", JOBS, b""),
    (b"HEAD", JOBS, b""),
    (b"GET", JOBS, b"/result"),
    (b"GET", JOBS, b"/log"),
    (b"GET", JOBS, b"/payload"),
    (b"GET", b"/batches/", b""),
    (b"PATCH", JOBS, b""),
)
# One segment of a path, of which the whole is an id for us.
_SEGMENT = re.compile(rb"[!-~]+")
_END = re.compile(rb"[/?#]")
# What is said of an id that is none of ours, a wrong escape, a name of a route, a long line.
UNKNOWN = {400, 404, 405, 410, 414, 415, 421}
WORLD: list[World] = []


def fuzz_one(data: bytes) -> None:
    """Ask for an id, once alone and once on a connection that knows a poll."""
    if not data:
        return
    if not WORLD:
        WORLD.append(World())
    world = WORLD[0]
    method, before, after = ROUTES[data[0] % len(ROUTES)]
    text = world.named(data[1:])
    sent = b"%b %b%b%b HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n" % (method, before, text, after)
    raw = world.ask(sent)
    if not _SEGMENT.fullmatch(text) or _END.search(text):
        # It is another request, or none.
        return
    (answer,) = reading.answers(raw, [method], may_be_head=False)
    asked = unquote_to_bytes(text)
    if asked == KEY and before == JOBS:
        asked = world.ids[b"$S"]
    name = next((name for name, job_id in world.ids.items() if job_id == asked), None)
    if name is None or (name == BATCH) != (before != JOBS):
        assert answer.status in UNKNOWN, raw
        for mine in world.ids.values():
            assert mine in text or mine not in raw, f"{text!r} is answered with the job {mine!r}"
    elif method != b"PATCH" and after != b"/payload":
        check_own(answer, asked, STATES[name])


def check_own(answer: reading.Answer, own: bytes, state: bytes) -> None:
    """See that an answer is about the job with the id ``own``."""
    assert answer.headers.get(b"job-state", b"") == state, answer
    if answer.headers.get(b"content-type", b"").endswith(b"json") and answer.body[:1] == b"{":
        told = json.loads(answer.body)
        assert told.get("id", own.decode()).encode() == own, answer
