"""The content of requests, decoded: a submission, a batch of them, or a change of a task or job.

The decoder stops at the first fault, which suits the fast road. Short content that it refuses is
looked through once more, for an answer that names more than one fault. Longer content is only
scanned to see whether it is JSON. So a refusal costs no more than acceptance.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Annotated, TypeVar

import msgspec
from headway.core.errors import InvalidError, MalformedError
from headway.core.faults import SHORT_BYTES, allowed, faults, few, is_short, kind_of
from headway.core.hold import Switches
from headway.core.job import Revision, Submission
from headway.core.status import COUNT_MOST
from msgspec import Meta

Faults = Iterator[tuple[str, str]]
Content = TypeVar("Content")

# Content with each digit as 0 and each E as e has one of FAR in it if a number is too large for a
# float: one with an exponent of three digits, or with so many digits that a shorter exponent is
# enough.
_SHAPES = bytes(0x30 if chr(byte) in "0123456789" else 0x65 if chr(byte) in "eE" else 0x20 for byte in range(256))
FAR_EXPONENT, FAR_DIGITS = b"e000", b"0" * 200
# Finds the exponent of such a number, or its first 200 digits, before a character that ends a
# number outside of texts.
_far_exponents = re.compile(rb"[eE]\+?[0-9]{3,}+(?=[\],}\s])").finditer
_far_digits = re.compile(rb"[0-9]{200,}+(?:\.[0-9]*+)?(?:[eE]\+?[0-9]++)?(?=[\],}\s])").finditer
IN_NUMBERS, BEFORE_NUMBERS = b"-.0123456789", b"[,: \t\r\n"
LOOKED_AT_MOST = 100
# msgspec's words for a text that ends too early, and for one that ends behind half of a pair.
CUT = "Input data was truncated"
# Finds the first half of a pair without the second.
_half_pair = re.compile(rb"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])", re.DOTALL).search

_submission = msgspec.json.Decoder(Submission)
_switches = msgspec.json.Decoder(Switches)
_revision = msgspec.json.Decoder(Revision)
_raw = msgspec.json.Decoder(msgspec.Raw)
_batch = msgspec.json.Decoder(Annotated[list[Submission], Meta(min_length=1, max_length=COUNT_MOST)])


def submission(body: bytes) -> Submission:
    """Return ``body`` as a submission. Raises MalformedError or InvalidError."""
    return _decoded(body, _submission, _faults)


def payload(body: bytes) -> bytes:
    """Return ``body``, checked to be JSON. Raises MalformedError."""
    _decoded(body, _raw, lambda _: iter(()))
    return body


def switches(body: bytes) -> Switches:
    """Return ``body`` as a change of a task's switches. Raises MalformedError or InvalidError."""
    return _decoded(body, _switches, lambda members: _wrong(Switches, members))


def revision(body: bytes) -> Revision:
    """Return ``body`` as a change of a job. Raises MalformedError or InvalidError."""
    return _decoded(body, _revision, lambda members: _wrong(Revision, members))


def batch(body: bytes) -> list[Submission]:
    """Return ``body`` as 1 to COUNT_MOST submissions. Raises MalformedError or InvalidError."""
    return _decoded(body, _batch, _batch_faults)


def _decoded(body: bytes, decoder: msgspec.json.Decoder[Content], faults_of: Callable[[object], Faults]) -> Content:
    try:
        if not body.isascii():
            # The payload is kept undecoded, so nobody else checks whether it is text.
            body.decode()
        content = decoder.decode(body)
        shapes = body.translate(_SHAPES, b"+")
        many_digits = FAR_DIGITS in shapes
        if many_digits or FAR_EXPONENT in shapes:
            _check_numbers(body, many_digits)
        return content
    except (msgspec.ValidationError, OverflowError) as error:
        members = _members(body)
        # No fault but the first: a member that is wrong and then given again.
        raise InvalidError((few(faults_of(members)) if members is not None else []) or [_fault(error)]) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise _malformed(body, error) from None


def _malformed(body: bytes, error: Exception) -> MalformedError:
    """Return the error of content that is no JSON, in words about that."""
    if isinstance(error, RecursionError):
        return MalformedError("arrays and objects stand in each other over 900 deep")
    if isinstance(error, UnicodeDecodeError):
        return MalformedError(f"byte {error.start} is no UTF-8")
    if str(error) == CUT and _half_pair(body):
        return MalformedError("a text has half of a surrogate pair, such as \\ud800, which is no character")
    return MalformedError(str(error))


def _check_numbers(body: bytes, many_digits: bool) -> None:
    """Raise MalformedError if a number anywhere is too large to be given to the task.

    The decoder leaves a payload as it is, so nobody else looks. To find that no number can be so
    large costs 0.3 µs.
    """
    if len(body) > SHORT_BYTES and not _may_be_far(body, many_digits):
        return
    try:
        msgspec.json.decode(body)
    except msgspec.ValidationError:
        raise MalformedError("a number is over 1.8e308, and no whole one of up to 4,300 digits") from None
    except (msgspec.DecodeError, RecursionError, OverflowError, ValueError):
        # Other faults are reported by the next step.
        return


def _may_be_far(body: bytes, many_digits: bool) -> bool:
    """Whether long content may have too large a number: one that looks so, outside of texts.

    This is a scan, because decoding would build all values. It says yes after LOOKED_AT_MOST
    candidates that turned out to be none.
    """
    begin = quotes = looked_at = 0
    found = chain(_far_exponents(body), _far_digits(body) if many_digits else ())
    for start, end in sorted(match.span() for match in islice(found, LOOKED_AT_MOST + 1)):
        looked_at += 1
        head = body[begin:start]
        number = head[len(head.rstrip(IN_NUMBERS)) :] + body[start:end]
        if body[end - len(number) - 1] not in BEFORE_NUMBERS or _is_near(number):
            continue
        quotes += head.replace(rb"\\", b"").replace(rb"\"", b"").count(b'"')
        begin = start
        if quotes % 2 == 0:
            return True
    return looked_at > LOOKED_AT_MOST


def _is_near(number: bytes) -> bool:
    try:
        msgspec.json.decode(number)
    except (msgspec.DecodeError, ValueError):
        return False
    return True


def _members(body: bytes) -> object:
    """Return short content decoded, None for longer. Raises MalformedError if it is no JSON."""
    try:
        if not is_short(body):
            msgspec.json.decode(body, type=msgspec.Raw)
            return None
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _malformed(body, error) from None


def _fault(error: Exception) -> tuple[str, str]:
    text, _, path = str(error).partition(" - at `$")
    place = path.removeprefix(".").rstrip("`")
    words = allowed(Submission, place.rpartition(".")[2])
    return place, f"{text}: expected {words}" if words else text


def _wrong(kind: type[msgspec.Struct], members: object, place: str = "") -> Faults:
    if not isinstance(members, dict):
        yield place, f"expected an object, got {kind_of(members)}"
        return
    yield from faults(kind, members, place and f"{place}.")


def _faults(members: object, place: str = "") -> Faults:
    yield from _wrong(Submission, members, place)
    if isinstance(members, dict) and "task" not in members:
        yield f"{place and f'{place}.'}task", "is required"


def _batch_faults(items: object) -> Faults:
    if not isinstance(items, list):
        yield "", f"expected an array of submissions, got {kind_of(items)}"
    elif not 1 <= len(items) <= COUNT_MOST:
        yield "", f"expected 1 to {COUNT_MOST} submissions, got {len(items)}"
    else:
        for index, item in enumerate(items):
            yield from _faults(item, f"[{index}]")
