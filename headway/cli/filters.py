"""The options that say which jobs are meant, of ``headway list`` and of orders about many jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from headway.cli.times import Since

if TYPE_CHECKING:
    from headway.client import Filter

STATES = ("scheduled", "queued", "running", "retrying", "succeeded", "failed", "cancelled")
ENDED = frozenset({"succeeded", "failed", "cancelled"})
REASONS = ("error", "timeout", "crashed", "deadline", "invalid-payload")
OPTIONS = (
    click.option("--state", "states", type=click.Choice(STATES), multiple=True, help="May be repeated."),
    click.option("--failed", is_flag=True, help="The same as --state failed."),
    click.option("--task", metavar="TASK", help="Of this task."),
    click.option("--tag", metavar="TAG", help="With this tag."),
    click.option("--reason", type=click.Choice(REASONS), help="That failed for this reason."),
    click.option("--error", metavar="TEXT", help="With this text within the error."),
    click.option(
        "--since",
        type=Since(),
        metavar="TIME",
        help="Not before an age such as 1d, or a time. It is that of the end if all states that are asked for "
        "are final, else that of the submission.",
    ),
    click.option("--before", type=Since(), metavar="TIME", help="The same: before an age or a time."),
)


def filtered(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options. The command gets them as ``wanted``."""

    @wraps(command)
    def gathered(
        *given: Any,
        states: Sequence[str],
        failed: bool,
        since: datetime | str | None,
        before: datetime | str | None,
        task: str | None,
        tag: str | None,
        reason: str | None,
        error: str | None,
        **others: Any,
    ) -> None:
        chosen = list(dict.fromkeys([*states, *(["failed"] if failed else [])]))
        # Only a job that failed has these.
        final = ENDED.issuperset(chosen) if chosen else reason is not None or error is not None
        wanted: Filter = {"state": chosen or None, "task": task, "tag": tag, "reason": reason, "error": error}
        if final:
            wanted |= {"ended_after": since, "ended_before": before}
        else:
            wanted |= {"submitted_after": since, "submitted_before": before}
        command(*given, wanted={name: value for name, value in wanted.items() if value is not None}, **others)

    for option in reversed(OPTIONS):
        gathered = option(gathered)
    return gathered
