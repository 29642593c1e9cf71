"""Failures: exceptions of tasks as text, so that nothing keeps their frames.

The text is bounded, since anybody may have written it. If a method of the exception itself raises,
the text names that error too.

An exception group is named with its members. It is retried if each of its members is an error that
``retry_on`` names, or a Retry: any other member would only fail again. A group of Snoozes is a
Snooze.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from headway.core import records
from headway.core.tasks.result import ResultError
from headway.core.tasks.retry import DelayError, Retry, Snooze, seconds

# Characters that are kept of the name of a class, of an error, and of its traceback: its beginning,
# and its end.
NAME_LONGEST = 200
ERROR_LONGEST = 2000
TRACEBACK_BEGIN, TRACEBACK_END = 12_000, 4000
# Members of an exception group that are looked at, and that are named.
MEMBERS_MOST = 1000
MEMBERS_NAMED = 10


class Failure(msgspec.Struct, frozen=True, gc=False):
    """The kept parts of an exception. ``text`` begins with ``error_type``, the name of its class, as a rule."""

    error_type: str
    text: str
    traceback: str = ""
    # Whether another attempt may be made, and in how many seconds if the task gave a delay.
    may_retry: bool = False
    retry_delay: float | None = None
    # The seconds of a Snooze. Then nothing has failed.
    snooze_s: float | None = None


def failure(error: BaseException, retry_on: tuple[type[BaseException], ...]) -> Failure:
    """Describe ``error``, which ended an attempt at a task that is retried after ``retry_on``."""
    try:
        return _failure(error, retry_on)
    except BaseException as worse:  # noqa: BLE001 — its own methods raise
        name = _name(error)
        return Failure(name, f"{name} (it cannot be read: {type(worse).__name__})")


def _failure(error: BaseException, retry_on: tuple[type[BaseException], ...]) -> Failure:
    members = list(_members(error))
    retries = [member for member in members if isinstance(member, Retry)]
    name = _name(error)
    try:
        delays = [seconds(retry.delay) for retry in retries if retry.delay is not None]
        if all(isinstance(member, Snooze) for member in members):
            snoozes = [seconds(getattr(member, "delay", None), "Snooze") for member in members]
            return Failure(name, Snooze.text, snooze_s=max(snoozes))
    except DelayError as wrong:
        # The delay was not given to ``__init__``, which checks it.
        return Failure(name, f"{name}: {wrong}", _where(error))
    # The text of these is enough, unless they have a cause.
    is_alone = error.__cause__ is None and (error.__context__ is None or error.__suppress_context__)
    return Failure(
        name,
        cut(_named(error, members)),
        "" if is_alone and isinstance(error, Retry | ResultError) else _where(error),
        may_retry=_may_retry(error, members, retry_on),
        retry_delay=max(delays, default=None),
    )


def _name(error: BaseException) -> str:
    return cut(type(error).__name__)[:NAME_LONGEST]


def _may_retry(error: BaseException, members: list[BaseException], retry_on: tuple[type[BaseException], ...]) -> bool:
    if any(isinstance(member, DelayError) for member in members):
        return False
    try:
        return isinstance(error, retry_on) or all(isinstance(member, (Retry, *retry_on)) for member in members)
    except BaseException:  # noqa: BLE001 — a class of the user's may raise when asked for its instances
        return False


def cut(text: str) -> str:
    """Return the beginning of an error's ``text``, without characters that UTF-8 cannot hold."""
    return text[:ERROR_LONGEST].encode(errors="replace").decode()


def cut_traceback(text: str) -> str:
    """Return a traceback without characters that UTF-8 cannot hold.

    A long one comes without its middle.
    """
    more = len(text) - TRACEBACK_BEGIN - TRACEBACK_END
    if more > 0:
        text = f"{text[:TRACEBACK_BEGIN]}\n… {more} characters …\n{text[-TRACEBACK_END:]}"
    return text.encode(errors="replace").decode()


def _members(error: BaseException) -> Iterator[BaseException]:
    """Yield ``error``, or the members of a group in their order."""
    waiting = [error]
    for _ in range(MEMBERS_MOST):
        if not waiting:
            return
        member = waiting.pop()
        if isinstance(member, BaseExceptionGroup):
            waiting.extend(reversed(member.exceptions))
        else:
            yield member
    # Too many to look at: they allow no retry. Only a ``retry_on`` that names the group does.
    yield error


def _named(error: BaseException, members: list[BaseException]) -> str:
    name = type(error).__name__
    try:
        # Longer than is kept, so that the kept beginning is whole.
        text = records.text_of(error, 2 * ERROR_LONGEST)
    except BaseException as worse:  # noqa: BLE001 — the __str__ of an error of the user's may raise
        return f"{name} (its text cannot be read: {type(worse).__name__})"
    if isinstance(error, Retry):
        return text or Retry.text
    if isinstance(error, ResultError):
        return text
    if isinstance(error, BaseExceptionGroup):
        named = "; ".join(cut(_named(member, [])) for member in members[:MEMBERS_NAMED])
        more = f"; and {len(members) - MEMBERS_NAMED} more" if len(members) > MEMBERS_NAMED else ""
        return f"{name}: {error.message[:ERROR_LONGEST]}: {named}{more}"
    return f"{name}: {text}"


def _where(error: BaseException) -> str:
    """Return the traceback of ``error`` with its causes, without our frames at its beginning."""
    where = error.__traceback__
    while where is not None and where.tb_frame.f_globals.get("__name__", "").startswith("headway.core."):
        where = where.tb_next
    try:
        told = records.exception_from(error, where)
    except BaseException as worse:  # noqa: BLE001 — as above
        told = f"its traceback cannot be read: {type(worse).__name__}"
    return cut_traceback(told)
