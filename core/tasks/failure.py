"""What an exception of a task says: text, so that nothing keeps its frames.

The text is bounded, since anybody may have written it, and whatever the exception's own methods raise is told as well.

An exception group is named with its members. It is tried again if each of its members is an error that ``retry_on``
names, or a Retry: one that is not would only fail again.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator

import msgspec
from headway.core.tasks.result import ResultError
from headway.core.tasks.retry import DelayError, Retry, seconds

# Characters of an error that are kept, and of its traceback: its beginning, and its end.
ERROR_LONGEST = 2000
TRACEBACK_BEGIN, TRACEBACK_END = 12_000, 4000
# Members of exception groups that are looked at, and named.
MEMBERS_MOST = 1000
MEMBERS_NAMED = 10


class Failure(msgspec.Struct, frozen=True, gc=False):
    """What is kept of an exception. ``text`` is for clients, ``traceback`` for the log."""

    text: str
    traceback: str
    # Whether another attempt may be made, and in how many seconds where the task said so.
    may_retry: bool
    retry_delay: float | None


def failure(error: BaseException, retry_on: tuple[type[BaseException], ...]) -> Failure:
    """Say what ``error`` is, which ended an attempt at a task that is tried again after errors of ``retry_on``."""
    try:
        return _failure(error, retry_on)
    except BaseException as worse:  # noqa: BLE001 — its own methods raise
        return Failure(f"{type(error).__name__}, which cannot be looked at: {type(worse).__name__}", "", False, None)


def _failure(error: BaseException, retry_on: tuple[type[BaseException], ...]) -> Failure:
    members = list(_members(error))
    retries = [member for member in members if isinstance(member, Retry)]
    try:
        delays = [seconds(retry.delay) for retry in retries if retry.delay is not None]
    except DelayError as wrong:
        # It was not given to ``__init__``, which looks at it.
        return Failure(f"{type(error).__name__}: {wrong}", _where(error), False, None)
    # These say by themselves what is wrong.
    where = "" if isinstance(error, Retry | ResultError) else _where(error)
    return Failure(cut(_named(error, members)), where, _may_retry(error, members, retry_on), max(delays, default=None))


def _may_retry(error: BaseException, members: list[BaseException], retry_on: tuple[type[BaseException], ...]) -> bool:
    if any(isinstance(member, DelayError) for member in members):
        return False
    try:
        return isinstance(error, retry_on) or all(isinstance(member, (Retry, *retry_on)) for member in members)
    except BaseException:  # noqa: BLE001 — a class of the user's that does not say what is one of it
        return False


def cut(text: str) -> str:
    """Return the beginning of an error's ``text``, without what UTF-8 cannot hold."""
    return text[:ERROR_LONGEST].encode(errors="replace").decode()


def cut_traceback(text: str) -> str:
    """Return a traceback without its middle where it is long, and without what UTF-8 cannot hold."""
    more = len(text) - TRACEBACK_BEGIN - TRACEBACK_END
    if more > 0:
        text = f"{text[:TRACEBACK_BEGIN]}\n… {more} characters …\n{text[-TRACEBACK_END:]}"
    return text.encode(errors="replace").decode()


def _members(error: BaseException) -> Iterator[BaseException]:
    """Yield ``error``, or those that are in it where it is a group, in their order."""
    waiting = [error]
    for _ in range(MEMBERS_MOST):
        if not waiting:
            return
        member = waiting.pop()
        if isinstance(member, BaseExceptionGroup):
            waiting.extend(reversed(member.exceptions))
        else:
            yield member
    # Too many to look at: none of them is one to try again after.
    yield error


def _named(error: BaseException, members: list[BaseException]) -> str:
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException as worse:  # noqa: BLE001 — an error of the user's whose own __str__ raises
        return f"{name}, whose text cannot be had: {type(worse).__name__}"
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
    """Return the traceback of ``error`` with its causes, without the frames of ours that it begins with."""
    where = error.__traceback__
    while where is not None and where.tb_frame.f_globals.get("__name__", "").startswith("headway.core."):
        where = where.tb_next
    try:
        told = "".join(traceback.format_exception(type(error), error, where)).rstrip()
    except BaseException as worse:  # noqa: BLE001 — as above
        told = f"its traceback cannot be had: {type(worse).__name__}"
    return cut_traceback(told)
