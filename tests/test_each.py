"""A table of cases in one test: none is passed over, and those that are wrong are told by their names."""

import inspect

import pytest

from tests.each import each


def test_all_that_are_wrong_are_told_and_none_behind_them_is_passed_over() -> None:
    seen = []

    @each("number, other", [(1, 1), (2, 3), (4, 4), pytest.param(5, 6, id="f"), (7, 7)], ids=["a", "b", "c", "d", "e"])
    def check(server: str, number: int, other: int) -> None:
        seen.append((server, number))
        assert number == other

    with pytest.raises(ExceptionGroup, match="2 of 5 cases are wrong: 1: b, 3: f") as raised:
        check(server="one")
    assert [str(error).partition("\n")[0] for error in raised.value.exceptions] == ["assert 2 == 3", "assert 5 == 6"]
    assert seen == [("one", number) for number in (1, 2, 4, 5, 7)]
    assert list(inspect.signature(check).parameters) == ["server"]


def test_tables_of_two_are_gone_through_in_all_pairs() -> None:
    seen = []

    @each("first", "ab")
    @each("second", "cd")
    def check(first: str, second: str) -> None:
        seen.append(first + second)

    check()
    assert seen == ["ac", "ad", "bc", "bd"]


def test_what_is_not_raised_is_told_as_well() -> None:
    @each("key", ["a", "b"], ids=str)
    def check(key: str) -> None:
        with pytest.raises(KeyError):
            {"b": 1}[key]

    with pytest.raises(BaseExceptionGroup, match="1 of 2 cases are wrong: 1: b"):
        check()


def test_a_table_without_cases_is_refused() -> None:
    with pytest.raises(AssertionError, match="there is no case of number"):
        each("number", [])
