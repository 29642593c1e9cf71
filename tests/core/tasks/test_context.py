"""What a task is told of its attempt, and what it tells."""

import logging

import pytest
from headway.core.tasks.context import Context


@pytest.mark.parametrize("percent", [-1, 101, float("nan")])
def test_progress_outside_0_to_100_is_the_tasks_error(percent: float) -> None:
    told: list[tuple[int, str]] = []
    with pytest.raises(ValueError, match="expected 0 to 100"):
        Context("id", 1, lambda *report: told.append(report)).progress(percent)
    assert told == []


def test_progress_is_told_in_whole_percent_once_each_until_the_attempt_is_over() -> None:
    told: list[int] = []
    context = Context("id", 1, lambda percent, _: told.append(percent))
    for percent in (0, 0.9, 1, 41.9, 41.2, 40, 100):
        context.progress(percent)
    assert told == [0, 1, 41, 40, 100]
    context.close()
    context.progress(5)
    assert len(told) == 5


def test_a_message_is_told_beside_the_progress_once_each() -> None:
    told: list[tuple[int, str]] = []
    context = Context("id", 1, lambda *report: told.append(report))
    for message in ("page 1", "page 1", "page 2", ""):
        context.progress(40, message)
    assert told == [(40, "page 1"), (40, "page 2"), (40, "")]


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("x" * 1000, "x" * 200),
        ("\x1b[31mred\x1b[0m\r\nJob-State: failed\x00", "[31mred [0m  Job-State: failed"),
        ("  Zoë, 北京 \udce9 ", "Zoë, 北京 ?"),
    ],
)
def test_a_message_is_one_short_line_without_control_characters(message: str, shown: str) -> None:
    told: list[str] = []
    Context("id", 1, lambda _, message: told.append(message)).progress(0, message)
    assert told == [shown]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("one", b"one\n"),
        ("two\nlines\n", b"two\nlines\n"),
        ("", b"\n"),
        ("\x1b[31m <b> Zoë \udce9", b"\x1b[31m <b> Zo\xc3\xab \\udce9\n"),
        ("ë" * 1_000_000, "ë".encode() * 1_000_000 + b"\n"),
    ],
    ids=["line", "lines", "empty", "characters", "long"],
)
def test_a_text_is_written_as_a_line_of_utf_8(text: str, written: bytes) -> None:
    log = bytearray()
    context = Context("id", 1, lambda *_: None, write=log.extend)
    context.log(text)
    assert log == written
    context.close()
    context.log("too late")
    assert log == written


def test_the_log_is_a_logger_of_the_server_as_well(caplog: pytest.LogCaptureFixture) -> None:
    log = bytearray()
    context = Context("some id", 3, lambda *_: None, write=log.extend, task="resize")
    with caplog.at_level(logging.INFO):
        context.log.info("took %d s", 4)
    (record,) = caplog.records
    assert (record.name, record.getMessage(), bytes(log)) == ("headway.task", "took 4 s", b"")
    told = {name: getattr(record, name) for name in ("job", "task", "attempt")}
    assert told == {"job": "some id", "task": "resize", "attempt": 3}
