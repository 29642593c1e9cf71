"""The command line: ``headway list``."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import click

from headway.cli import server
from headway.cli.each import command
from headway.cli.filters import filtered
from headway.cli.output import one_line, say_json
from headway.cli.server import asks

if TYPE_CHECKING:
    from headway.client import Filter


@command("list")
@filtered
@click.option("--limit", type=click.IntRange(min=1), default=50, metavar="N", help="At most so many.  [default: 50]")
@click.option("-q", "--quiet", is_flag=True, help="Write the ids alone.")
@asks
def list_jobs(
    wanted: Filter, limit: int, quiet: bool, *, as_json: bool, url: str | None, patience: float | None
) -> None:
    """List jobs, newest first: all, or those that fit all options."""
    from headway.client import finding

    with server.errors(), server.client(url, patience) as client:
        jobs = client.iterate(finding.entries(client.roads, wanted, limit))
        # The first shows that there is a server.
        first = list(islice(jobs, 1))
        if not as_json and not quiet:
            click.echo(f"{'ID':<36}  {'STATE':<9}  {'SUBMITTED':<24}  TASK")
        for job in chain(first, jobs):
            if as_json:
                say_json(job)
            elif quiet:
                click.echo(one_line(f"{job.get('id')}"))
            else:
                click.echo(_line(job))


def _line(job: dict[str, Any]) -> str:
    """Return a job as a line: with its task, and why it failed."""
    job_id, state, submitted, task, reason = (
        one_line(str(job.get(name) or "")) for name in ("id", "state", "submitted", "task", "reason")
    )
    return f"{job_id:<36}  {state:<9}  {submitted:<24}  {task}{f' ({reason})' if reason else ''}"
