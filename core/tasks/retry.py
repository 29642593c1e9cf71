"""``Retry`` and ``Snooze``: a task raises one of them to run again later.

A Retry is a failed attempt, and uses one of the job's retries. A Snooze is none: the job waits as
if it had not begun.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from math import nan
from numbers import Real

DELAY_LONGEST_S = 30 * 86_400


class DelayError(TypeError, ValueError):
    """The delay of a Retry or a Snooze is no delay. The job fails: another attempt would ask for the same."""


class Retry(Exception):
    """Raised by a task: this attempt did not work out. Another is made in ``delay`` seconds.

    It uses one of the job's retries. None leaves the delay to the backoff. Raises DelayError if
    ``delay`` is no time of 0 s to 30 days, as seconds in a number or as a timedelta.
    """

    text = "the task asked for another attempt"
    # In seconds. For a subclass that does not call ``__init__``.
    delay: float | None = None

    def __init__(self, delay: Real | Decimal | timedelta | float | None = None) -> None:
        super().__init__(self.text)
        self.delay = None if delay is None else seconds(delay)


class Snooze(Exception):
    """Raised by a task: it is too early. The job is scheduled again, in ``delay`` seconds.

    The attempt does not count and uses no retry. The deadline of the job stays. Raises DelayError
    as Retry does.
    """

    text = "the task snoozed"
    # In seconds. None, for a subclass that does not call ``__init__``, is no delay.
    delay: float | None = None

    def __init__(self, delay: Real | Decimal | timedelta | float) -> None:
        super().__init__(self.text)
        self.delay = seconds(delay, "Snooze")


def seconds(delay: object, of: str = "Retry") -> float:
    """Return the delay of a Retry or a Snooze in seconds. Raises DelayError if it is no delay."""
    if isinstance(delay, timedelta):
        delay = delay.total_seconds()
    if isinstance(delay, bool) or not isinstance(delay, Real | Decimal):
        raise DelayError(f"{of}: delay={_short(delay)} is not allowed: expected seconds as a number, or a timedelta")
    try:
        found = float(delay)
    except (OverflowError, ValueError):
        found = nan
    if not 0 <= found <= DELAY_LONGEST_S:
        raise DelayError(f"{of}: delay={_short(delay)} is not allowed: expected 0 to {DELAY_LONGEST_S} s (30 days)")
    return found


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 — of the user's class, or an int of more digits than Python writes
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 60 else f"{text[:60]}…"
