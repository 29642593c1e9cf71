"""Failures: exceptions of tasks as text, so that nothing keeps their frames.

The text is bounded, since anybody may have written it. If a method of the exception itself raises,
the text names that error too.

An exception group is named with its members. It is retried if each of its members is an error that
``retry_on`` names, or a Retry: any other member would only fail again.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator

import msgspec
from headway.core.tasks.result import ResultError
from headway.core.tasks.retry import DelayError, Retry, seconds

# Characters that are kept of an error, and of its traceback: its beginning, and its end.
ERROR_LONGEST = 2000
TRACEBACK_BEGIN, TRACEBACK_END = 12_000, 4000
# Members of an exception group that are looked at, and that are named.
MEMBERS_MOST = 1000
MEMBERS_NAMED = 10


class Failure(msgspec.Struct, frozen=True, gc=False):
    """The kept parts of an exception. ``text`` is for clients, ``traceback`` for the log."""

    text: str
    traceback: str
    # Whether another attempt may be made, and in how many seconds if the task gave a delay.
    may_retry: bool
    retry_delay: float | None


def failure(error: BaseException, retry_on: tuple[type[BaseException], ...]) -> Failure:
    """Describe ``error``, which ended an attempt at a task that is retried after ``retry_on``."""
    try:
        return _failure(error, retry_on)
    except BaseException as worse:  # noqa: BLE001 — its own methods raise
        return Failure(f"{type(error).__name__} (it cannot be read: {type(worse).__name__})", "", False, None)


def _failure(error: BaseException, retry_on: tuple[type[BaseException], ...]) -> Failure:
    members = list(_members(error))
    retries = [member for member in members if isinstance(member, Retry)]
    try:
        delays = [seconds(retry.delay) for retry in retries if retry.delay is not None]
    except DelayError as wrong:
        # The delay was not given to ``__init__``, which checks it.
        return Failure(f"{type(error).__name__}: {wrong}", _where(error), False, None)
    # The text of these is enough.
    where = "" if isinstance(error, Retry | ResultError) else _where(error)
    return Failure(cut(_named(error, members)), where, _may_retry(error, members, retry_on), max(delays, default=None))


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
        text = str(error)
    except BaseException as worse:  # noqa: BLE001 — the __str__ of an error of the user's may raise
        return f"{name} (its text cannot be read: {type(worse).__name__})"
    if isinstance(error, Retry):
        return text or Retry.text
    if isinstance(error, ResultError):
        return text
    if isinstance(error, BaseExceptionGroup):
        named = "; ".join(_named(member, []) for member in members[:MEMBERS_NAMED])
        more = f"; and {len(members) - MEMBERS_NAMED} more" if len(members) > MEMBERS_NAMED else ""
        return f"{name}: {error.message}: {named}{more}"
    return f"{name}: {text}"


def _where(error: BaseException) -> str:
    """Return the traceback of ``error`` with its causes, without our frames at its beginning."""
    where = error.__traceback__
    while where is not None and where.tb_frame.f_globals.get("__name__", "").startswith("headway.core."):
        where = where.tb_next
    try:
        told = "".join(traceback.format_exception(type(error), error, where)).rstrip()
    except BaseException as worse:  # noqa: BLE001 — as above
        told = f"its traceback cannot be read: {type(worse).__name__}"
    return cut_traceback(told)
