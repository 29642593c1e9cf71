"""The content of a POST, read by the server and by a strict reader made of Python's json.

- Whatever the content is, it is read, or refused by an error that is meant for the client.
- What is accepted is JSON (RFC 8259), and both readers find the same payload in it.
- What is refused is no JSON, or the reason is one that docs/protocol.md gives.
- A payload that was accepted is decoded by its task, in one piece and in slices, to the same value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import TypeVar

from headway.core.errors import InvalidError, MalformedError
from headway.core.faults import SHORT_BYTES
from headway.core.slices import make
from headway.core.tasks import payloads
from headway.protocol.api import bodies

Content = TypeVar("Content")

# More than is looked through for further faults.
LONG = b" " * SHORT_BYTES
# Whole numbers with so many characters are accepted.
DIGITS_MOST = 4300
# Python's own bound on the depth of its containers is met below this depth, and not far below.
DEPTH_LEAST = 300


def strict(body: bytes) -> tuple[object, str]:
    """Return the value of JSON, the last of members with the same name, and what is wrong with it."""
    try:
        text = body.decode()
        value: object = json.loads(
            text, parse_float=_float, parse_int=_int, parse_constant=_refuse, object_pairs_hook=_members
        )
        _check_text(value)
    except (ValueError, RecursionError) as error:
        return None, str(error)
    return value, ""


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) < len(pairs):
        # Also in those that a later one replaces.
        _check_text(pairs)
    return members


def _check_text(value: object) -> None:
    """Raise ValueError for a surrogate without a partner, which is no text."""
    json.dumps(value, ensure_ascii=False).encode()


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError("no float holds it")
    return value


def _int(digits: str) -> int | float:
    if len(digits) > DIGITS_MOST:
        raise ValueError("too many digits")
    return int(digits)


def _refuse(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def fuzz_one(body: bytes) -> None:
    """Check the content as that of each route."""
    payload = _read(bodies.payload, body)
    for read in (bodies.submission, bodies.batch, bodies.switches, bodies.revision):
        _read(read, body)
    wanted, fault = strict(body)
    assert payload is None or not fault, f"accepted, though {fault}: {body!r}"
    # Spaces that make content long change nothing.
    assert (_read(bodies.payload, body + LONG) is None) == (payload is None), body
    if fault:
        return
    if payload is None:
        assert _is_deep(body), f"refused: {body!r}"
        return
    check_payload(payload, wanted)
    submission = _read(bodies.submission, body)
    if submission is not None:
        assert isinstance(wanted, dict)
        assert submission.task == wanted["task"]
        check_payload(bytes(submission.payload), wanted.get("payload"))


def check_payload(payload: bytes, wanted: object) -> None:
    """See that a task is given ``wanted``."""
    for found in (payloads.decode(payload), payloads.decode_at_once(payload), make(payloads.slices(payload))):
        assert same(found, wanted), (payload, found, wanted)


def same(one: object, other: object) -> bool:
    """Whether two values are the same, 1 and 1.0 and True told apart."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def _read(read: Callable[[bytes], Content], body: bytes) -> Content | None:
    """Return the content, None if it is refused as a client is told."""
    try:
        return read(body)
    except (MalformedError, InvalidError) as error:
        told = str(error)
    assert told.isprintable(), body
    return None


def _is_deep(body: bytes) -> bool:
    return body.count(b"[") + body.count(b"{") >= DEPTH_LEAST
