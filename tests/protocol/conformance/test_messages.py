"""Each message, however TCP cuts it and whatever came before on its connection, has the answer of RFC 9110 and 9112.

A message that is refused is answered once. A good one behind it gets no answer, since nobody knows where it begins.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from tests.each import each
from tests.protocol.conformance.edits import GET, GOOD, POLL, POST, Case
from tests.protocol.conformance.refused import REFUSED
from tests.protocol.conformance.served import Served
from tests.protocol.conformance.taken import TAKEN

GOOD_STATUS = dict(GOOD.values())
CASES = [(case, True) for case in REFUSED] + [(case, case.closes) for case in TAKEN]
every_case = each("case, ends", CASES, [case.id for case, _ in CASES])


@dataclass(frozen=True)
class Way:
    """Messages in their order, as pieces that come in a read each."""

    name: str
    before: Sequence[bytes]
    behind: Sequence[bytes]
    pieces: Sequence[bytes]


def cut_by_lines(sent: bytes) -> list[bytes]:
    return re.findall(rb"[^\n]*\n|[^\n]+\Z", sent)


def cut_by_bytes(sent: bytes) -> list[bytes]:
    return [sent[at : at + 1] for at in range(len(sent))]


def ways(case: Case, ends: bool) -> Iterator[Way]:
    """Yield the ways in which a message comes: alone, in lines, among others, and after those that make it known."""
    sent = case.sent
    yield Way("whole", [], [GET], [sent, GET])
    yield Way("line by line", [], [GET], [*cut_by_lines(sent), GET])
    yield Way("before another", [], [GET, GET], [sent + GET, GET])
    yield Way("line by line, before another", [], [GET], cut_by_lines(sent + GET))
    yield Way("between others", [GET], [GET], [GET + sent + GET])
    yield Way("behind a submission", [POST], [GET], [POST + sent, GET])
    known = GOOD[case.base][0]
    for before in ([known], [known, known]):
        yield Way(f"known by {len(before)}", before, [known, known], [*before, sent, known, known])
        yield Way(f"known by {len(before)}, before another", before, [known], [*before, sent + known])
    if not (ends or case.continues):
        yield Way("known by itself", [sent, sent], [sent, GET], [sent, sent, sent, sent + GET])
    both = [POLL, POST]
    yield Way("after known ones of both kinds", both * 2, both, [*both * 2, sent, *both])


def check(served: Served, case: Case, ends: bool, way: Way) -> None:
    """See that each message has its answer, and that the one in question has the last if the connection ends there."""
    status_of = GOOD_STATUS | {case.sent: case.status}
    expected = [(status_of[message], kept(message)) for message in way.before]
    expected += [(100, "")] if case.continues else []
    expected += [(case.status, "close" if ends else kept(case.sent))]
    expected += [] if ends else [(status_of[message], kept(message)) for message in way.behind]
    answers, ended = served.answers(way.pieces, [*way.before, case.sent, *way.behind], len(expected))
    assert (answers, ended) == (expected, ends), f"{case.section}: {case.sent!r}, {way.name}"


def kept(message: bytes) -> str:
    """Return the Connection field of an answer after which the connection goes on."""
    return "keep-alive" if b" HTTP/1.0\r\n" in message else ""


def test_each_case_has_a_name_of_its_own() -> None:
    assert sorted({case.id for case, _ in CASES}) == sorted(case.id for case, _ in CASES)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with asyncio.Runner() as runner:
        yield Served(runner)


@every_case
def test_message(served: Served, case: Case, ends: bool) -> None:
    for way in ways(case, ends):
        check(served, case, ends, way)


@pytest.mark.parametrize(
    "sent", [GET, b"GET * HTTP/1.1\r\n\r\n", GET.replace(b"1.1", b"1.0")], ids=["good", "bad", "1.0"]
)
def test_a_client_that_sends_no_more_gets_its_answer_and_the_end(served: Served, sent: bytes) -> None:
    answers, ended = served.answers([GET + sent], [GET, sent], 2, then_end=True)
    assert ([code for code, _ in answers], ended) == ([200, 400 if b"*" in sent else 200], True)


@pytest.mark.long
@pytest.mark.parametrize(("case", "ends"), [pytest.param(case, ends, id=case.id) for case, ends in CASES])
def test_message_byte_by_byte(served: Served, case: Case, ends: bool) -> None:
    for before in ([], [GET], [POLL, POLL], [POST, POST]):
        pieces = [*before, *cut_by_bytes(served.filled(case.sent + GET))]
        check(served, case, ends, Way("byte by byte", before, [GET], pieces))
