"""The members of a query that say which jobs are meant: of ``GET /jobs``, and of orders about many.

A time is absolute, or an age. An age is made absolute once, so that all pages of a list mean the
same jobs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Literal, TypeVar, get_args
from urllib.parse import quote

import msgspec
from headway.core.errors import InvalidError
from headway.core.faults import allowed, printable
from headway.core.job import Reason, State, Tag
from headway.core.job_filter import JobFilter
from headway.protocol.access.scopes import READ, reads
from headway.protocol.api import queries
from headway.protocol.http.caller import Caller
from headway.protocol.http.clock import iso
from headway.protocol.http.problems import Refusal
from msgspec import Meta

REASONS = {reason.text: reason for reason in Reason if reason is not Reason.NONE}
# Of an age.
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
TEXT_LONGEST = 200
# A time of RFC 3339. A plus that was not percent-encoded has become a blank.
_DAY = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_HOUR = r"([01][0-9]|2[0-3]):[0-5][0-9]"
_DATE_TIME = rf"{_DAY}[Tt ]{_HOUR}:[0-5][0-9](\.[0-9]{{1,9}})?([Zz]|[+ -]{_HOUR})"
Time = Annotated[
    str,
    Meta(
        pattern=rf"^(?![\s\S]*\n)([0-9]{{1,9}}[{''.join(UNITS_S)}]|{_DATE_TIME})$",
        extra_json_schema={"description": "a time such as 2026-11-29T08:00:00Z, or an age such as 90s, 30m, 12h or 7d"},
    ),
]
StateName = Literal["scheduled", "queued", "running", "retrying", "succeeded", "failed", "cancelled"]
STATES = get_args(StateName)
States = Annotated[
    tuple[StateName, ...],
    Meta(extra_json_schema={"description": f"one or more of {', '.join(STATES)}, with commas between"}),
]
TIMES = ("submitted_after", "submitted_before", "ended_after", "ended_before")


class FilterQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The jobs that fit all members that are given."""

    state: States = ()
    task: Annotated[str, Meta(min_length=1, max_length=TEXT_LONGEST)] | None = None
    tag: Tag | None = None
    reason: Literal["error", "timeout", "crashed", "deadline", "invalid-payload"] | None = None
    # Within the error, in letters of any case.
    error: Annotated[str, Meta(min_length=1, max_length=TEXT_LONGEST)] | None = None
    submitted_after: Time | None = None
    submitted_before: Time | None = None
    ended_after: Time | None = None
    ended_before: Time | None = None


Query = TypeVar("Query", bound=FilterQuery)
LISTS = frozenset({"state"})
TEXTS = frozenset(FilterQuery.__struct_fields__) - LISTS


def read(target: bytes, kind: type[Query]) -> Query:
    """Return the query of a request target, its ages as times. Raises InvalidError."""
    query = queries.read(target, kind, LISTS, TEXTS)
    now = time.time()
    ages = {name: value for name in TIMES if (value := getattr(query, name)) and value[-1] in UNITS_S}
    return msgspec.structs.replace(query, **{name: _before(now, age) for name, age in ages.items()}) if ages else query


def check(query: FilterQuery, caller: Caller) -> None:
    """Raise Refusal if ``caller`` looks for a text in errors, and may not read them."""
    if query.error is not None and not reads(caller):
        raise Refusal("scope", f"the token {caller.name!r} may not look into errors: that needs the scope {READ}")


def _before(now: float, age: str) -> str:
    """Return the time of an age ago, in whole milliseconds. There is none before 1970."""
    return iso(max(now - int(age[:-1]) * UNITS_S[age[-1]], 0.0))


def job_filter(query: FilterQuery) -> JobFilter:
    """Return the jobs that ``read`` has found to be meant. Raises InvalidError for a day that is none."""
    return JobFilter(
        states=frozenset(State[name.upper()] for name in query.state),
        task=query.task,
        tag=query.tag,
        reason=None if query.reason is None else REASONS[query.reason],
        error=query.error,
        **{name: _seconds(name, getattr(query, name)) for name in TIMES},
    )


def _seconds(name: str, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        return datetime.fromisoformat(f"{value[:-6]}{value[-6:].replace(' ', '+')}".upper()).timestamp()
    except (ValueError, OverflowError):
        expected = allowed(FilterQuery, name).removesuffix(queries.OR_NULL)
        raise InvalidError([(name, f"{printable(repr(value))} is not allowed: expected {expected}")]) from None


def written(query: FilterQuery) -> str:
    """Return the filter of a query as the members of a URL's query, with an ampersand after each."""
    return "".join(f"{name}={value}&" for name, value in _members(query))


def _members(query: FilterQuery) -> Iterator[tuple[str, str]]:
    if query.state:
        yield "state", ",".join(query.state)
    for name in FilterQuery.__struct_fields__:
        value = getattr(query, name)
        if name != "state" and value is not None:
            yield name, quote(value, safe=":")
