"""Logs to stdout: plain lines for a terminal, a JSON object a line for everything else.

The text of a record is bounded (see ``core/records``). A JSON object also has the job, task and
attempt of the record, and the reason of a failure. Only a record begins a plain line: further lines
of its text and its traceback are indented, and control characters are shown by their codes.

Tasks share this log, and may configure logging as they like. Our own lines come out all the same.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from contextlib import suppress
from io import TextIOWrapper
from typing import Literal

import orjson
from headway.core import records
from headway.core.config import LogSection
from headway.protocol.process.lines import Lines

COLOURS = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m", logging.CRITICAL: "\x1b[31m"}
RESET = "\x1b[0m"
OURS = "headway"
# Members that a record may bring besides its message.
FIELDS = ("job", "task", "attempt", "reason")
FIELD_LONGEST = 500
INDENT = "\n    "
# Control characters and those that change the direction of writing, except line end and tab.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
# Seconds for writing the logged lines when the process ends.
FLUSH_S = 1.0

log = logging.getLogger(__name__)


class JsonFormatter(logging.Formatter):
    """One JSON object a line, times in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": records.cut(str(record.name), FIELD_LONGEST),
            "message": records.message(record),
        }
        for field in FIELDS:
            value = getattr(record, field, None)
            if value is not None:
                line[field] = value if type(value) is int and abs(value) < 2**53 else _text(value)
        stack = records.stack(record)
        if stack:
            line["exception"] = stack
        return orjson.dumps(line).decode()


class PlainFormatter(logging.Formatter):
    """Time, level and message. With ``colour``, warnings are yellow and errors red."""

    def __init__(self, colour: bool) -> None:
        super().__init__(datefmt="%H:%M:%S")
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or lines if there is more to a record."""
        text = "\n".join(filter(None, (_of_job(record), records.stack(record))))
        shown = CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text).replace("\n", INDENT)
        line = f"{self.formatTime(record, self.datefmt)} {record.levelname:7} {shown}"
        colour = COLOURS.get(record.levelno, "") if self._colour else ""
        return f"{colour}{line}{RESET}" if colour else line


def _of_job(record: logging.LogRecord) -> str:
    """Return the message of a record, with the job that it is about unless it names it already."""
    message = records.message(record)
    job = getattr(record, "job", None)
    if job is None or (told := _text(job)) in message:
        return message
    task, attempt = (_text(getattr(record, name, "?")) for name in ("task", "attempt"))
    return f"{message} (job {told}, task {task}, attempt {attempt})"


def _text(value: object) -> str:
    try:
        return records.cut(str(value), FIELD_LONGEST)
    except Exception as error:  # noqa: BLE001 — of a ``__str__`` that a task's record brings
        return f"({type(error).__name__})"


def _record(level: int, message: str) -> logging.LogRecord:
    """Return a record of this file's own."""
    return logging.LogRecord(__name__, level, pathname="", lineno=0, msg=message, args=None, exc_info=None)


class ToLines(logging.Handler):
    """Gives records to the thread that writes lines."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._lines = Lines(self._lost)

    def handle(self, record: logging.LogRecord) -> bool:
        """Take a record, without the lock: a ``__str__`` that waits would hold it against the loop."""
        if self.filter(record):
            self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 — a line is written whatever is in it
            told = f"a record cannot be written ({type(error).__name__}), logged at {record.pathname}:{record.lineno}"
            line = self.format(_record(logging.ERROR, told))
        self._lines.put(f"{line}\n".encode(errors="backslashreplace"))

    def flush(self) -> None:
        """Wait until all is written, FLUSH_S at most."""
        self._lines.flush(FLUSH_S)

    def close(self) -> None:
        """Do nothing: ``logging.config`` closes all handlers that it finds."""

    def _lost(self, count: int, why: str) -> bytes:
        record = _record(logging.WARNING, f"{count} lines of the log were dropped: {why}")
        return f"{self.format(record)}\n".encode()


class Steady(logging.Logger):
    """A logger of ours, immune to changes of all loggers by tasks: dictConfig disables them."""

    disabled = property(lambda _: False, lambda _, __: None)

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 — the name that logging has for it
        """Whether ``level`` is logged, in spite of ``logging.disable``."""
        return level >= self.getEffectiveLevel()


def set_up(settings: LogSection) -> None:
    """Send the log of this process to stdout."""
    _have_standard_files()
    terminal = os.isatty(1)
    kind: Literal["auto", "plain", "json"] = settings.format
    if kind == "auto":
        kind = "plain" if terminal else "json"
    # https://no-color.org: any value that is not empty.
    colour = terminal and not os.environ.get("NO_COLOR")
    handler = ToLines(PlainFormatter(colour) if kind == "plain" else JsonFormatter())
    level = settings.level.upper()
    logging.basicConfig(level=level, handlers=[handler], force=True)
    records.capture()
    ours = logging.getLogger(OURS)
    ours.handlers, ours.propagate = [handler], False
    ours.setLevel(level)
    # It may not have logged yet.
    logging.getLogger(records.TASK_LOGGER)
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and (name == OURS or name.startswith(f"{OURS}.")):
            logger.__class__ = Steady
    if isinstance(sys.stdout, TextIOWrapper):
        # The output of ``print`` in tasks comes at once, a line at a time.
        sys.stdout.reconfigure(line_buffering=True)


def flush() -> None:
    """Wait until our log is written, FLUSH_S at most."""
    for handler in logging.getLogger(OURS).handlers:
        handler.flush()


def _have_standard_files() -> None:
    """Open /dev/null for each closed standard file, so that nothing else gets its number."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
            with suppress(OSError):
                os.set_inheritable(fd, True)
