"""The text of a log record. It is bounded, so no job floods the log with one error. It never raises.

An error whose text is a megabyte, a recursion of a thousand frames, a group of a hundred thousand
errors, a ``__str__`` that raises: each leaves a record that says as much as fits.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from types import TracebackType

# The logger of tasks: ``context.log``.
TASK_LOGGER = "headway.task"
# Characters of a message, of a traceback, and of each part of a traceback, such as an error's text.
MESSAGE_LONGEST = 20_000
TRACEBACK_LONGEST = 20_000
PART_LONGEST = 2000
# Of an error's text, so that the part which it begins with its class is not cut again.
TEXT_LONGEST = 1600
# Frames of an exception, the innermost. Exceptions in a traceback: causes, contexts and members of
# groups.
FRAMES_MOST = 40
EXCEPTIONS_MOST = 30
# Notes of an exception.
NOTES_MOST = 100
# Between two exceptions, as the module traceback says it.
CAUSE = "The above exception was the direct cause of the following exception:"
CONTEXT = "During handling of the above exception, another exception occurred:"

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
    return exception_from(error, error.__traceback__)


def exception_from(error: BaseException, where: TracebackType | None) -> str:
    """Do the same from the frame ``where`` on."""
    try:
        if _are_too_many(error):
            parts = traceback.format_tb(where, -FRAMES_MOST)
            parts.append(f"{type(error).__name__}: {text_of(error)}, with more causes or members than are shown")
        elif any(map(_is_long, _related(error))):
            parts = list(_shortened(error, where, set()))
        else:
            parts = traceback.format_exception(type(error), error, where, -FRAMES_MOST)
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


def text_of(error: BaseException, longest: int = TEXT_LONGEST) -> str:
    """Return the text of ``error``, without its middle if it is long. Raises as its ``__str__`` does.

    ``str`` copies the text of a group, and escapes that of a KeyError: half a second for 100 MB.
    """
    made_by = type(error).__str__
    if made_by is BaseExceptionGroup.__str__ and isinstance(error, BaseExceptionGroup):
        return f"{_cut_text(error.message, longest)} ({len(error.exceptions)} sub-exceptions)"
    if made_by in (BaseException.__str__, KeyError.__str__) and any(map(_is_long_text, error.args)):
        arguments = [_cut_text(value, longest) for value in error.args]
        return str(KeyError(*arguments) if made_by is KeyError.__str__ else Exception(*arguments))
    return str(_cut_text(str(error), longest))


def _cut_text(value: object, longest: int) -> object:
    if isinstance(value, str):
        return cut(value, longest) if len(value) > longest else value
    if isinstance(value, bytes | bytearray) and len(value) > longest:
        return bytes(value[: longest // 2]) + b" ... %d bytes" % len(value)
    return value


def _is_long_text(value: object) -> bool:
    return isinstance(value, str | bytes | bytearray) and len(value) > TEXT_LONGEST


def _is_long(error: BaseException) -> bool:
    """Whether the text or the notes of ``error`` are longer than is shown.

    traceback would copy and split all of it: 16 s for notes of 100 MB.
    """
    notes = _notes(error)
    if len(notes) > NOTES_MOST or any(map(_is_long_text, (*notes, *error.args))):
        return True
    try:
        return len(str(error)) > TEXT_LONGEST
    except BaseException:  # noqa: BLE001 — traceback says that it cannot be read
        return False


def _notes(error: BaseException) -> Sequence[object]:
    notes = getattr(error, "__notes__", ())
    return notes if isinstance(notes, list | tuple) else ()


def _shortened(error: BaseException, where: TracebackType | None, seen: set[int]) -> Iterator[str]:
    """Yield the parts of a traceback with long texts, much as the module traceback does."""
    seen.add(id(error))
    cause = error.__cause__
    before = cause if cause is not None or error.__suppress_context__ else error.__context__
    if before is not None and id(before) not in seen:
        yield from _shortened(before, before.__traceback__, seen)
        yield f"\n{CAUSE if cause is not None else CONTEXT}\n\n"
    if where is not None:
        yield "Traceback (most recent call last):\n"
        yield from traceback.format_tb(where, -FRAMES_MOST)
    module, name = type(error).__module__, type(error).__qualname__
    yield f"{name if module in ('builtins', '__main__') else f'{module}.{name}'}: {text_of(error)}"
    yield "\n"
    for note in _notes(error)[:NOTES_MOST]:
        yield str(_cut_text(note, TEXT_LONGEST))
        yield "\n"
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            if id(member) not in seen:
                yield "A member of this group:\n"
                yield from _shortened(member, member.__traceback__, seen)


def _are_too_many(error: BaseException) -> bool:
    """Whether ``error`` has more causes and members than are looked at.

    traceback would look at all of them before it writes a character.
    """
    return len(_related(error)) > EXCEPTIONS_MOST


def _related(error: BaseException) -> list[BaseException]:
    """Return ``error`` with its causes and members, one more than are looked at if there are as many."""
    seen: dict[int, BaseException] = {}
    waiting: list[BaseException | None] = [error]
    while waiting and len(seen) <= EXCEPTIONS_MOST:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen[id(one)] = one
        waiting += (one.__cause__, one.__context__)
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions[: EXCEPTIONS_MOST + 1]
    return list(seen.values())
