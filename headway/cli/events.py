"""The command line: ``headway events``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from headway.cli import server
from headway.cli.each import command
from headway.cli.exits import EXIT_USAGE
from headway.cli.filters import STATES
from headway.cli.output import iso, one_line, say_json
from headway.cli.server import EXITS, asks
from headway.cli.settings import fail

if TYPE_CHECKING:
    from headway.client import JobEvent


@command()
@click.argument("job_id", metavar="[ID]", required=False)
@click.option("--task", metavar="TASK", help="Of this task.")
@click.option("--state", "states", type=click.Choice(STATES), multiple=True, help="To this state. May be repeated.")
@click.option("--tag", metavar="TAG", help="Of jobs with this tag.")
@asks
def events(
    job_id: str | None,
    task: str | None,
    states: Sequence[str],
    tag: str | None,
    *,
    as_json: bool,
    url: str | None,
    patience: float | None,
) -> None:
    """Write the moves of jobs as they happen: of one until it has ended, of all until Ctrl-C.

    Goes on through a restart or a deploy of the server. A line on standard error tells that events
    were missed.
    """
    if job_id is not None and (task or states or tag):
        fail("expected an id or a filter, not both: see headway events --help", EXIT_USAGE)
    code = 0
    with server.errors(), server.client(url, patience, waits=True) as client:
        if job_id is None:
            found = client.events(task=task, state=states or None, tag=tag)
        else:
            with server.usage():
                found = client.job(job_id).events()
        for event in found:
            if as_json:
                say_json(_members(event))
            elif event.kind == "reset":
                many = "some" if event.missed is None else f"{event.missed:,}"
                click.echo(f"headway: {many} events before this were missed", err=True)
            else:
                click.echo(_line(event))
            code = EXITS.get(event.state or "", 0)
    sys.exit(code)


def _members(event: JobEvent) -> dict[str, Any]:
    """Return an event as a document."""
    members: dict[str, Any] = {"event": event.kind, "event_id": event.event_id, "id": event.id, "task": event.task}
    members |= {"state": event.state, "attempt": event.attempt, "reason": event.reason}
    members |= {"tags": list(event.tags) or None, "time": iso(event.time), "missed": event.missed}
    return {name: value for name, value in members.items() if value is not None}


def _line(event: JobEvent) -> str:
    """Return an event as a line."""
    about = [f"attempt {event.attempt}"] if event.attempt else []
    about += [event.reason] if event.reason else []
    note = f" ({', '.join(about)})" if about else ""
    place = f"{iso(event.time) or '':<24}  {one_line(event.id or '')}  {one_line(event.state or ''):<9}"
    return "  ".join([place, *map(one_line, (f"{event.task}{note}", *event.tags))])
