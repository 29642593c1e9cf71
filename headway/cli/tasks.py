"""The command line: ``headway tasks``."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import click

from headway.cli import server
from headway.cli.frame import seconds
from headway.cli.output import one_line, say_json, say_table

HEAD = ("NAME", "UNFINISHED", "SUCCEEDED", "FAILED", "MEDIAN", "DESCRIPTION")


@click.command(epilog=server.EPILOG)
@click.argument("name", required=False)
@server.asks
def tasks(name: str | None, as_json: bool, url: str | None, patience: float | None) -> None:
    """List the tasks of the server, or show the one of NAME with the schema of its payload.

    Counts of finished jobs outlive a deploy, and with a journal a restart.
    """
    path = "/tasks" if name is None else f"/tasks/{quote(name, safe='')}"
    with server.errors(), server.client(url, patience) as client:
        found = server.document(client, path, member="tasks" if name is None else "name")
    if as_json:
        say_json(found)
    elif name is None:
        say_table([HEAD, *map(_row, found["tasks"])])
    else:
        for member, value in found.items():
            shown = one_line(value or "") if member in ("name", "description") else json.dumps(value)
            click.echo(f"{member.replace('_', ' '):<18}  {shown}")


def _row(task: dict[str, Any]) -> tuple[str, ...]:
    counts, lines = task["counts"], (task["description"] or "").splitlines()
    numbers = (str(counts[name]) for name in ("unfinished", "succeeded", "failed"))
    stands = [*(["on hold"] if task.get("dispatch") == "hold" else [])]
    stands += ["closed"] if task.get("intake") == "closed" else []
    note = f" ({', '.join(stands)})" if stands else ""
    return (
        one_line(f"{task['name']}{note}"),
        *numbers,
        seconds(task["run_median_seconds"]),
        one_line(lines[0] if lines else ""),
    )
