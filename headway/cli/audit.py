"""The command line: ``headway audit``."""

from __future__ import annotations

from typing import Any

import click

from headway.cli import server
from headway.cli.output import one_line, say_json, say_table
from headway.cli.server import asks

HEAD = ("NUMBER", "TIME", "WHO", "WHAT", "TARGET", "CODE")


@click.command(epilog=server.EPILOG)
@click.option("--limit", type=click.IntRange(min=1), default=50, metavar="N", help="At most so many.  [default: 50]")
@asks
def audit(limit: int, *, as_json: bool, url: str | None, patience: float | None) -> None:
    """List the last changes, newest first: who has changed what.

    WHO is the name of a token, or the address of a client without one. TARGET is a job, a batch, a task,
    or the filter of an order.
    """
    from headway.client import finding

    with server.errors(), server.client(url, patience) as client:
        found = [*client.iterate(finding.changes(client.roads, limit))]
    if as_json:
        for entry in found:
            say_json(entry)
    else:
        say_table([HEAD, *map(_row, found)])


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    who = entry.get("who") or entry.get("address")
    target = entry.get("target") or entry.get("filter")
    shown = (entry.get("number"), entry.get("time"), who, entry.get("what"), target, entry.get("code"))
    return tuple(one_line("-" if value is None else str(value)) for value in shown)
