"""Lines of the log: their formats, and that nobody waits for whoever reads them."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from headway.protocol.process import lines as lines_module
from headway.protocol.process.lines import Lines
from headway.protocol.process.logs import JsonFormatter, PlainFormatter


def record(message: object, *arguments: object, **brought: object) -> logging.LogRecord:
    made = logging.LogRecord("shop", logging.WARNING, "shop.py", 7, message, arguments, None)
    made.__dict__.update(brought)
    return made


def as_json(told: logging.LogRecord) -> dict[str, Any]:
    line = JsonFormatter().format(told)
    assert "\n" not in line
    found: dict[str, Any] = json.loads(line)
    return found


def test_json_has_the_job_that_a_record_is_of() -> None:
    told = as_json(record("it %s", "failed", job="12", task="convert", attempt=2, reason="timeout"))
    assert told.pop("time").endswith("Z")
    assert told == {
        "level": "warning",
        "logger": "shop",
        "message": "it failed",
        "job": "12",
        "task": "convert",
        "attempt": 2,
        "reason": "timeout",
    }
    assert "job" not in as_json(record("of no job"))


@pytest.mark.parametrize("value", [object(), "caf\udce9", 2**70, float("nan"), ["x" * 10_000], {1: 2}])
def test_whatever_a_record_brings_costs_no_line(value: object) -> None:
    told = as_json(record("text %s", value, job=value, task=value))
    assert told["message"].startswith("text ")
    assert len(told["job"]) < 600


def test_a_traceback_is_a_member_of_its_own() -> None:
    assert as_json(record("it failed", exc_text="Traceback\n  here"))["exception"] == "Traceback\n  here"


FORGED = "x\n12:00:00 ERROR   forged\r12:00:01 ERROR forged \x1b[31m\x9b31m\u2028\u202eforged\ttab"


def test_a_plain_line_names_its_job_once() -> None:
    brought: dict[str, object] = {"job": "12", "task": "convert", "attempt": 2}
    plain = PlainFormatter(colour=False)
    assert plain.format(record("half done", **brought)).endswith("WARNING half done (job 12, task convert, attempt 2)")
    assert plain.format(record("job 12 failed", **brought)).endswith("WARNING job 12 failed")
    assert plain.format(record("half done")).endswith("WARNING half done")


def test_no_text_forges_a_plain_line() -> None:
    text = PlainFormatter(colour=False).format(record(FORGED, exc_text="Traceback\nValueError: " + FORGED))
    first, *others = text.split("\n")
    assert first[8:] == " WARNING x"
    assert all(line.startswith("    ") for line in others)
    assert text.count("forged") == 6
    assert not any(control in text for control in "\r\x1b\x9b\u2028\u202e")
    assert "\\r12:00:01 ERROR forged \\x1b[31m\\x9b31m\\u2028\\u202eforged\ttab" in text
    assert PlainFormatter(colour=True).format(record("x")).startswith("\x1b[33m")


# Lines that are written by a thread of their own.


class Reader:
    """Lines, and the other end of the pipe that they go to."""

    def __init__(self) -> None:
        self.fd, self.write_fd = os.pipe()
        self.lines = Lines(lambda count, why: b"lost %d: %s\n" % (count, why.encode()), self.write_fd)

    def read(self) -> list[str]:
        """Read until the last line is written."""
        found = bytearray()
        while True:
            all_written = self.lines.flush(0.005)
            os.set_blocking(self.fd, False)
            try:
                data = os.read(self.fd, 1 << 20)
            except BlockingIOError:
                if all_written:
                    return found.decode().splitlines()
                continue
            found += data


@pytest.fixture
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    for fd in (reader.fd, reader.write_fd):
        os.close(fd)


def test_lines_are_written_in_their_order(reader: Reader) -> None:
    for number in range(5000):
        reader.lines.put(b"%d\n" % number)
    assert reader.read() == [str(number) for number in range(5000)]


def test_the_loop_does_not_wait_for_a_reader_and_what_is_lost_is_counted(reader: Reader) -> None:
    line = b"x" * 999 + b"\n"
    count = 3 * lines_module.BYTES_MOST // len(line)
    began = time.perf_counter()
    for _ in range(count):
        reader.lines.put(line)
    reader.lines.flush(0.05)
    assert time.perf_counter() - began < 1
    dropped = reader.lines.dropped
    assert dropped > count // 2
    found = reader.read()
    assert found.pop() == f"lost {dropped}: they were not read"
    assert len(found) == count - dropped
    # Told of once.
    reader.lines.put(b"next\n")
    assert reader.read() == ["next"]


def test_other_threads_wait_for_room_but_not_for_ever(reader: Reader) -> None:
    line = b"x" * 999 + b"\n"
    count = 2 * lines_module.BYTES_MOST // len(line)

    def burst() -> None:
        for _ in range(count):
            reader.lines.put(line)

    # Read, all of a burst comes.
    thread = threading.Thread(target=burst)
    thread.start()
    found: list[str] = []
    while thread.is_alive():
        found += reader.read()
    assert len(found + reader.read()) == count
    assert reader.lines.dropped == 0
    # Not read, a thread waits once.
    began = time.perf_counter()
    burst()
    thread = threading.Thread(target=burst)
    thread.start()
    thread.join()
    assert lines_module.ROOM_S < time.perf_counter() - began < lines_module.ROOM_S + 2


def test_a_line_that_cannot_be_written_is_counted_and_the_next_is_tried(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, full = os.write, threading.Event()

    def write(fd: int, data: Any) -> int:
        if not (full.is_set() and os.path.sameopenfile(fd, reader.write_fd)):
            return real(fd, data)
        if len(data) <= 4:
            raise OSError(28, "No space left on device")
        return real(fd, data[:4])

    monkeypatch.setattr(os, "write", write)
    full.set()
    reader.lines.put(b"torn in two\n")
    reader.lines.flush(5)
    full.clear()
    reader.lines.put(b"whole\n")
    assert reader.read() == ["torn in ", "whole", "lost 1: No space left on device"]


def test_a_file_that_somebody_has_made_non_blocking_is_waited_for(reader: Reader) -> None:
    os.set_blocking(reader.write_fd, False)
    for number in range(100_000):
        reader.lines.put(b"%d\n" % number)
    assert reader.read() == [str(number) for number in range(100_000)]
