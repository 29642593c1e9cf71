"""The text of a log record. It is bounded, so no job floods the log with one error. It never raises.

An error whose text is a megabyte, a recursion of a thousand frames, a group of a hundred thousand
errors, a ``__str__`` that raises: each leaves a record that says as much as fits.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback

# Characters of a message, of a traceback, and of each part of a traceback, such as an error's text.
MESSAGE_LONGEST = 20_000
TRACEBACK_LONGEST = 20_000
PART_LONGEST = 2000
# Frames of an exception, the innermost. Exceptions in a traceback: causes, contexts and members of
# groups.
FRAMES_MOST = 40
EXCEPTIONS_MOST = 30

log = logging.getLogger(__name__)


def message(record: logging.LogRecord) -> str:
    """Return the message of a record."""
    try:
        text = record.getMessage()
    except Exception as error:  # noqa: BLE001 — of a ``__str__``
        where = f"{record.pathname}:{record.lineno}"
        text = f"a message that cannot be formatted ({type(error).__name__}), logged at {where}"
    return cut(text, MESSAGE_LONGEST)


def stack(record: logging.LogRecord) -> str:
    """Return the traceback of a record, or the stack of the call; empty if it has neither."""
    error = record.exc_info[1] if record.exc_info else None
    text = (record.exc_text or "") if error is None else exception(error)
    if record.stack_info:
        text = f"{text}\n{record.stack_info}" if text else record.stack_info
    return cut(text, TRACEBACK_LONGEST)


def exception(error: BaseException) -> str:
    """Return the traceback of ``error``, with its causes."""
    try:
        if _are_too_many(error):
            parts = traceback.format_tb(error.__traceback__, -FRAMES_MOST)
            parts.append(f"{type(error).__name__}: {error}, with more causes or members than are shown")
        else:
            parts = traceback.format_exception(type(error), error, error.__traceback__, -FRAMES_MOST)
        return cut("".join(cut(part, PART_LONGEST) for part in parts).rstrip(), TRACEBACK_LONGEST)
    except Exception as worse:  # noqa: BLE001 — as above
        return f"{type(error).__name__} (its traceback cannot be formatted: {type(worse).__name__})"


def cut(text: str, longest: int) -> str:
    """Return ``text`` without its middle if it is long, and without surrogates, which UTF-8 cannot hold."""
    if len(text) > longest:
        tail = longest // 4
        text = f"{text[: longest - tail]} … {len(text) - longest} characters … {text[-tail:]}"
    return text.encode(errors="backslashreplace").decode()


def capture() -> None:
    """Log the things that Python would write to stderr.

    These are warnings, and exceptions that nobody can catch or that end a thread.
    """
    logging.captureWarnings(True)
    sys.unraisablehook = lambda ignored: _tell(ignored.err_msg or "exception ignored", ignored.exc_value)
    threading.excepthook = lambda ended: _tell("a thread ended by an exception", ended.exc_value)


def _tell(what: str, error: BaseException | None) -> None:
    if not isinstance(error, SystemExit):
        log.error("%s", what, exc_info=error)


def _are_too_many(error: BaseException) -> bool:
    """Whether ``error`` has more causes and members than are looked at.

    traceback would look at all of them before it writes a character.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        waiting += (one.__cause__, one.__context__)
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions[: EXCEPTIONS_MOST + 1]
        if len(seen) > EXCEPTIONS_MOST:
            return True
    return False
