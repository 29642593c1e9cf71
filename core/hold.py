"""The two switches of a task: whether its jobs begin, and whether new ones are accepted."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from headway.core.errors import InvalidError
from headway.core.faults import printable
from msgspec import UNSET, Meta, UnsetType

REASON_LONGEST = 200
# A later end is taken for a mistake, and calendars have one.
LONGEST_S = 10 * 366 * 86_400
# Seconds until a client asks again for a task whose switches have no time to return. A person may
# return them at any moment.
OPEN_END_S = 60.0


class TaskHold(msgspec.Struct, frozen=True):
    """The switches of a task, the time at which both return by themselves, and a person's reason.

    The defaults are those of a task that nobody has touched.
    """

    dispatch: Literal["run", "hold"] = "run"
    intake: Literal["open", "closed"] = "open"
    # Of time.time. None: until a person returns them.
    until: float | None = None
    reason: str = ""

    def at(self, now: float) -> TaskHold:
        """Return the switches as they are at a time of time.time."""
        is_over = self.until is not None and self.until <= now
        return NO_HOLD if is_over or (self.dispatch == "run" and self.intake == "open") else self

    def __str__(self) -> str:
        reason = f" ({printable(self.reason, REASON_LONGEST)})" if self.reason else ""
        return f"dispatch {self.dispatch}, intake {self.intake}{reason}"


NO_HOLD = TaskHold()


class Switches(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A change of a task's switches. A member that is not set leaves a switch as it is."""

    dispatch: Literal["run", "hold"] | UnsetType = UNSET
    intake: Literal["open", "closed"] | UnsetType = UNSET
    until: (
        Annotated[
            datetime, Meta(tz=True, extra_json_schema={"description": "a time to come such as 2026-11-29T08:00:00Z"})
        ]
        | UnsetType
        | None
    ) = UNSET
    reason: (
        Annotated[
            str,
            Meta(
                max_length=REASON_LONGEST,
                # No ``$``, which Python finds before a last line feed, too.
                pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]*(?![\s\S])",
                extra_json_schema={"description": "a text of up to 200 characters, none of them a control character"},
            ),
        ]
        | UnsetType
    ) = UNSET

    def over(self, before: TaskHold, now: float) -> TaskHold:
        """Return the switches ``before`` with this change. ``now`` is of time.time. Raises InvalidError."""
        if self == Switches():
            raise InvalidError([("", f"expected at least one of {', '.join(Switches.__struct_fields__)}")])
        given = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not UNSET}
        if isinstance(self.until, datetime):
            given["until"] = self.until.timestamp()
        after = msgspec.structs.replace(before, **given)
        if isinstance(self.until, datetime):
            self._check_until(self.until, after, now)
        return after.at(now)

    def _check_until(self, until: datetime, after: TaskHold, now: float) -> None:
        if not now < until.timestamp() < now + LONGEST_S:
            wanted = "a time to come" if until.timestamp() <= now else "a time within ten years"
            raise InvalidError([("until", f"{until.isoformat()} is not allowed: expected {wanted}")])
        if after.dispatch == "run" and after.intake == "open":
            raise InvalidError([("until", 'ends nothing: send dispatch "hold" or intake "closed" with it')])
