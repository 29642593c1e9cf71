"""What a log record says, whatever is in it."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

import pytest
from headway.core import records


class UnprintableError(Exception):
    """An error that is one itself."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def record(message: object, *arguments: object, error: BaseException | None = None) -> logging.LogRecord:
    told = (type(error), error, error.__traceback__) if error is not None else None
    return logging.LogRecord("shop", logging.INFO, "shop.py", 7, message, arguments, told)


def raised(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except BaseException as error:  # noqa: BLE001 — any is wanted
        return error
    raise AssertionError


def test_short_messages_are_as_they_are() -> None:
    assert records.message(record("%d of %s", 3, "four")) == "3 of four"
    assert records.stack(record("text")) == ""


def test_long_messages_lose_their_middle() -> None:
    text = records.message(record("a" * 30_000 + "b" * 30_000))
    assert len(text) < records.MESSAGE_LONGEST + 50
    assert text.startswith("aaa")
    assert text.endswith("bbb")
    assert " … 40000 characters … " in text


def test_what_utf_8_cannot_hold_is_told_by_its_code() -> None:
    assert records.message(record("caf\udce9")) == "caf\\udce9"
    assert "caf\\udce9" in records.stack(record("x", error=ValueError("caf\udce9")))


@pytest.mark.parametrize(
    "message", [record("%d", "three"), record("%s", UnprintableError()), record(UnprintableError())]
)
def test_a_message_that_cannot_be_formatted_says_where_it_was_logged(message: logging.LogRecord) -> None:
    assert "a message that cannot be formatted" in records.message(message)
    assert "shop.py:7" in records.message(message)


def deep(depth: int) -> None:
    if depth:
        deep(depth - 1)
    raise ValueError("at the bottom")


def chain(length: int) -> BaseException:
    error: BaseException = ValueError("0")
    for number in range(1, length):
        later = ValueError(str(number))
        later.__cause__ = error
        error = later
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (lambda: raised(lambda: deep(900)), "ValueError: at the bottom"),
        (lambda: ValueError("a" * 5_000_000), "ValueError: aaa"),
        (lambda: chain(10_000), "ValueError: 9999"),
        (lambda: ExceptionGroup("many", [ValueError(str(number)) for number in range(200_000)]), "many"),
        (lambda: raised(lambda: deep(100_000)), "RecursionError"),
        (UnprintableError, "UnprintableError"),
    ],
    ids=["deep", "long", "chained", "group", "recursion", "unprintable"],
)
def test_tracebacks_are_bounded_in_size_and_time(error: Callable[[], BaseException], told: str) -> None:
    one = error()
    began = time.perf_counter()
    text = records.stack(record("x", error=one))
    assert time.perf_counter() - began < 0.1
    assert told in text
    assert len(text) <= records.TRACEBACK_LONGEST + 50


def test_causes_and_groups_are_told_as_python_tells_them() -> None:
    def fail() -> None:
        try:
            raise KeyError("cause")
        except KeyError as cause:
            raise ExceptionGroup("group", [ValueError("member")]) from cause

    text = records.stack(record("x", error=raised(fail)))
    assert "KeyError: 'cause'" in text
    assert "direct cause" in text
    assert "ValueError: member" in text


def test_what_python_writes_to_stderr_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unlucky:
        def __del__(self) -> None:
            raise RuntimeError("in a finalizer")

    # Put back after the test.
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr("threading.excepthook", sys.excepthook)
    records.capture()
    logging.captureWarnings(False)
    Unlucky()
    [told] = [record for record in caplog.records if record.name == records.log.name]
    assert "in a finalizer" in records.stack(told)
    assert told.levelno == logging.ERROR
