"""The command line: ``headway hold``, ``close`` and ``resume``."""

from __future__ import annotations

from datetime import datetime, timedelta

import click

from headway.cli import server
from headway.cli.each import command
from headway.cli.output import iso, one_line, say_json
from headway.cli.server import asks
from headway.cli.times import Until

TASK = click.argument("task")
UNTIL = click.option("--until", type=Until(), metavar="TIME", help="End it by itself: after 30m, 2h, 1d, or at a time.")
REASON = click.option("--reason", metavar="TEXT", help="Why, for those that wait.")


@command()
@TASK
@UNTIL
@REASON
@click.option("--close", "closes", is_flag=True, help="Refuse new jobs, too.")
@asks
def hold(
    task: str,
    until: datetime | timedelta | None,
    reason: str | None,
    *,
    closes: bool,
    as_json: bool,
    url: str | None,
    patience: float | None,
) -> None:
    """Start no more jobs of TASK. New ones are accepted and wait. Jobs that run go on."""
    turn = {"dispatch": "hold"} | ({"intake": "closed"} if closes else {})
    _switch(task, turn, until, reason, as_json=as_json, url=url, patience=patience)


@command()
@TASK
@UNTIL
@REASON
@asks
def close(
    task: str,
    until: datetime | timedelta | None,
    reason: str | None,
    *,
    as_json: bool,
    url: str | None,
    patience: float | None,
) -> None:
    """Refuse new jobs of TASK. Those that wait are run."""
    _switch(task, {"intake": "closed"}, until, reason, as_json=as_json, url=url, patience=patience)


@command()
@TASK
@asks
def resume(task: str, *, as_json: bool, url: str | None, patience: float | None) -> None:
    """Run the jobs of TASK again, and accept new ones."""
    _switch(task, {"dispatch": "run", "intake": "open"}, None, None, as_json=as_json, url=url, patience=patience)


def _switch(
    task: str,
    turn: dict[str, str],
    until: datetime | timedelta | None,
    reason: str | None,
    *,
    as_json: bool,
    url: str | None,
    patience: float | None,
) -> None:
    """Turn switches of a task, and write how they stand."""
    from headway.client import orders

    with server.errors(), server.client(url, patience) as client, server.usage():
        now = client.run(orders.switch(client.roads, task, until=until, reason=reason, **turn))
    if as_json:
        members = {"task": now.task, "dispatch": now.dispatch, "intake": now.intake}
        say_json(members | {"until": iso(now.until), "reason": now.reason})
        return
    stands = [*(["on hold"] if now.dispatch == "hold" else []), *(["closed"] if now.intake == "closed" else [])]
    if not stands:
        click.echo(one_line(f"{now.task} runs"))
        return
    end = f" until {iso(now.until)}" if now.until else ""
    why = f": {now.reason}" if now.reason else ""
    click.echo(one_line(f"{now.task} is {' and '.join(stands)}{end}{why}"))
