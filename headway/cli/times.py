"""Times on the command line: how long, since when, until when."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from math import isfinite
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    # click 8.1 has it without a parameter.
    ParamType = click.ParamType

UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}
_WITH_UNIT = re.compile(rf"(\d{{1,12}}(?:\.\d{{1,9}})?)({'|'.join(UNITS_S)})")
# As the server takes it.
_AGE = re.compile(r"\d{1,9}[smhdw]")


def seconds_of(text: str) -> float | None:
    """Return the seconds of a time such as 10m, None if it is none."""
    found = _WITH_UNIT.fullmatch(text)
    return float(found[1]) * UNITS_S[found[2]] if found else None


class TimeSpan(ParamType):
    """Seconds, or a number with a unit: 500ms, 90s, 10m, 2h, 1d, 1w."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds. Raises BadParameter."""
        if isinstance(value, int | float):
            return value
        seconds = seconds_of(value)
        if seconds is None:
            try:
                seconds = float(value)
            except ValueError:
                self.fail(f"{value!r} is no time: expected seconds, or one such as 90s, 10m, 2h or 1d", param, ctx)
        if not isfinite(seconds):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        if seconds < 0:
            self.fail(f"{value!r} is below 0.", param, ctx)
        return seconds


class Since(ParamType):
    """An age such as 1d, which the server counts from its own time, or a time of ISO 8601."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime | str:
        """Return a time, or an age. Raises BadParameter."""
        if isinstance(value, datetime) or _AGE.fullmatch(value):
            return value  # type: ignore[no-any-return]
        return _time(self, value, param, ctx, hint="an age such as 90s, 30m, 12h or 1d")


class Until(ParamType):
    """A time ahead: a duration such as 2h, or a time of ISO 8601."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime | timedelta:
        """Return a time, or how long from now. Raises BadParameter."""
        if isinstance(value, datetime | timedelta):
            return value
        seconds = seconds_of(value)
        if seconds is not None:
            try:
                return timedelta(seconds=seconds)
            except OverflowError:
                self.fail(f"{value!r} is too long.", param, ctx)
        return _time(self, value, param, ctx, hint="a time from now such as 30m, 2h or 1d")


def _time(
    kind: ParamType, value: str, param: click.Parameter | None, ctx: click.Context | None, *, hint: str
) -> datetime:
    """Return a time of ISO 8601, in local time if it has no zone. Raises BadParameter."""
    try:
        return datetime.fromisoformat(value).astimezone()
    except (ValueError, OverflowError):
        kind.fail(f"{value!r} is no time: expected {hint}, or one such as 2026-11-29T08:00:00Z", param, ctx)
