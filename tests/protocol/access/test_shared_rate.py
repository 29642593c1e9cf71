"""A rate that several gateways keep together."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from headway.core.memfile import nameless_file
from headway.protocol.access.limits import POLL, SUBMIT, Rate
from headway.protocol.access.shared_rate import ENTRIES, SharedRate


@pytest.fixture
def fd() -> Iterator[int]:
    opened = nameless_file("rates")
    yield opened
    os.close(opened)


def test_two_let_in_as_often_as_one(fd: int) -> None:
    one, other, alone = (
        SharedRate(fd, SUBMIT, 5, 10),
        SharedRate(fd, SUBMIT, 5, 10),
        Rate(SUBMIT, 5, 10),
    )
    for at in range(40):
        now = 1000 + at * 0.7
        shared = (one, other)[at % 2].admit(b"a", 1, now)
        assert shared == pytest.approx(alone.admit(b"a", 1, now))


def test_submits_and_polls_are_counted_apart(fd: int) -> None:
    submits, polls = SharedRate(fd, SUBMIT, 1, 10), SharedRate(fd, POLL, 1, 10)
    assert [submits.admit(b"a", 1, 5.0)[0], polls.admit(b"a", 1, 5.0)[0]] == [0, 0]
    assert submits.admit(b"a", 1, 5.0)[0] > 0
    assert polls.admit(b"b", 1, 5.0)[0] == 0


def test_an_admission_can_be_given_back_at_another(fd: int) -> None:
    one, other = SharedRate(fd, SUBMIT, 2, 10), SharedRate(fd, SUBMIT, 2, 10)
    assert one.admit(b"a", 2, 5.0)[0] == 0
    other.give_back(b"a", 5.0)
    assert [one.admit(b"a", 1, 5.0)[0], one.admit(b"a", 1, 5.0)[0] > 0] == [0, True]


def test_clients_without_a_place_share_one_and_nobody_is_forgotten(fd: int) -> None:
    rate = SharedRate(fd, SUBMIT, 1, 1000)
    for number in range(2 * ENTRIES):
        rate.admit(b"%d" % number, 1, 5.0)
    assert rate.admit(b"0", 1, 6.0)[0] > 0
    # Once they have regained everything their places are free.
    assert rate.admit(b"new", 1, 2000.0)[0] == 0


def _take(file: str) -> int:
    fd = os.open(file, os.O_RDWR)
    rate, now = SharedRate(fd, SUBMIT, 1000, 10**6), time.monotonic()
    return sum(rate.admit(b"a", 1, now)[0] == 0 for _ in range(800))


def test_processes_that_count_at_once_lose_nothing(tmp_path: pytest.TempPathFactory) -> None:
    file = os.path.join(str(tmp_path), "rates")
    os.close(os.open(file, os.O_CREAT | os.O_RDWR))
    with ProcessPoolExecutor(3, mp_context=get_context("spawn")) as pool:
        assert sum(pool.map(_take, [file] * 3)) == 1000
