"""What clients send, decoded: a submission, or a batch of them.

The decoder stops at the first fault, which is what the fast road wants. What it did not take is looked through once
more for an answer that names every fault.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

import msgspec
from headway.core.batches import COUNT_MOST
from headway.core.errors import InvalidError, MalformedError
from headway.core.fields import faults
from headway.core.job import Submission
from msgspec import Meta

Faults = list[tuple[str, str]]
Content = TypeVar("Content")

_submission = msgspec.json.Decoder(Submission)
_batch = msgspec.json.Decoder(Annotated[list[Submission], Meta(min_length=1, max_length=COUNT_MOST)])


def submission(body: bytes) -> Submission:
    """Return the submission that ``body`` is; raises MalformedError or InvalidError."""
    return _decoded(body, _submission, _faults)


def batch(body: bytes) -> list[Submission]:
    """Return the 1 to COUNT_MOST submissions that ``body`` is; raises MalformedError or InvalidError."""
    return _decoded(body, _batch, _batch_faults)


def _decoded(body: bytes, decoder: msgspec.json.Decoder[Content], faults_of: Callable[[object], Faults]) -> Content:
    try:
        if not body.isascii():
            # The payload is kept as it is, so that nobody else looks whether it is text.
            body.decode()
        return decoder.decode(body)
    except (msgspec.ValidationError, OverflowError) as error:
        # None but the first: a member that is wrong and then given again.
        raise InvalidError(faults_of(_members(body)) or [_fault(error)]) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MalformedError(str(error)) from None


def _members(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise MalformedError(str(error)) from None


def _fault(error: Exception) -> tuple[str, str]:
    text, _, place = str(error).partition(" - at `$")
    return place.removeprefix(".").rstrip("`"), text


def _faults(members: object, place: str = "") -> Faults:
    if not isinstance(members, dict):
        return [(place, f"expected an object, got {type(members).__name__}")]
    prefix = place and f"{place}."
    found = list(faults(Submission, members, prefix))
    if "task" not in members:
        found.append((f"{prefix}task", "is required"))
    return found


def _batch_faults(items: object) -> Faults:
    if not isinstance(items, list):
        return [("", f"expected an array of submissions, got {type(items).__name__}")]
    if not 1 <= len(items) <= COUNT_MOST:
        return [("", f"expected 1 to {COUNT_MOST} submissions, got {len(items)}")]
    return [fault for index, item in enumerate(items) for fault in _faults(item, f"[{index}]")]
