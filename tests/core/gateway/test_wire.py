"""What is sent between a gateway and its engine comes as it was."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from headway.core import errors
from headway.core.events import EventFilter
from headway.core.gateway import wire
from headway.core.hold import Switches
from headway.core.interface import Engine
from headway.core.job import ContentSubmission, Submission
from headway.core.stats import Histogram
from headway.core.tasks.result import Result

from tests.core.members import ALONE
from tests.each import each


@each("name", wire.CALLS)
def test_each_call_has_a_form_of_its_arguments_and_its_value(name: str) -> None:
    assert name == "others" or hasattr(Engine, name)
    assert callable(wire.sent_arguments(name))
    assert callable(wire.read_arguments(name))
    assert callable(wire.read_value(name))


def through(name: str, *given: object) -> Any:
    """Return the first argument of a call as the engine gets it."""
    sent = wire.sent_arguments(name)(given)
    assert wire.CALLS[sent[0]] == name
    return wire.read_arguments(name)(memoryview(sent)[1:])[0]


@pytest.mark.parametrize(
    "submission",
    [
        Submission("add", msgspec.Raw(b'{"a": 1e400, "b": [null]}'), tags=("x", "y"), delay=2.5, durability="disk"),
        ContentSubmission("shrink", b"\x00\xff" * 10, media_type="image/png", retries=0),
    ],
)
def test_a_submission_comes_with_its_payload_byte_by_byte(submission: Submission) -> None:
    got = through("submit", submission, None)
    assert type(got) is type(submission)
    assert msgspec.structs.asdict(got) == msgspec.structs.asdict(submission)
    (one,) = through("submit_batch", [submission], None)
    assert bytes(one.payload) == bytes(submission.payload)


@each("member", sorted(ALONE))
def test_each_member_of_a_submission_comes(member: str) -> None:
    kind = ContentSubmission if member == "media_type" else Submission
    given = kind("add", **{member: ALONE[member]})
    assert msgspec.structs.asdict(through("submit", given, None)) == msgspec.structs.asdict(given)


@pytest.mark.parametrize("until", [None, datetime(9999, 12, 31, 23, 59, tzinfo=UTC), msgspec.UNSET])
def test_switches_come_with_any_time(until: datetime | None) -> None:
    switches = Switches(dispatch="hold", until=until)
    assert through("switch", "add", switches, None) == "add"
    sent = wire.sent_arguments("switch")(("add", switches, None))
    assert wire.read_arguments("switch")(memoryview(sent)[1:])[1] == switches


def test_a_place_of_80_bits_comes_whole() -> None:
    sent = wire.sent_arguments("watch")((EventFilter(task="add"), 1 << 79))
    assert wire.read_arguments("watch")(memoryview(sent)[1:]) == (EventFilter(task="add"), 1 << 79)


def test_values_that_are_no_structs() -> None:
    result = wire.read_value("result")(wire.encode(Result(b"\x89", "image/png")))
    assert (result.body, result.media_type) == (b"\x89", "image/png")
    assert wire.read_value("result")(wire.encode(None)) is None
    histogram = Histogram()
    histogram.add(0.3)
    again = msgspec.msgpack.decode(wire.encode(histogram))
    assert again == [histogram.buckets, histogram.sum]


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.HeadwayError)]


@each("kind", KINDS)
def test_each_error_can_be_sent(kind: type[errors.HeadwayError]) -> None:
    error = kind.__new__(kind)
    error.args = ("a line",)
    vars(error)["retry_after_s"] = 1.5
    if isinstance(error, errors.InvalidError):
        error.faults = [("place", "fault")]
    got = wire.decode_fault(wire.encode(wire.SentFault.of(error))).error()
    assert type(got) is kind
    assert (str(got), vars(got)) == ("a line", vars(error))
