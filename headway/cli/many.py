"""Orders about many jobs: their number first, then a question, then the wait for the job that carries them out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from headway.cli import server
from headway.cli.exits import EXIT_USAGE
from headway.cli.filters import filtered
from headway.cli.output import on_terminal, one_line, say_json
from headway.cli.settings import fail

if TYPE_CHECKING:
    from headway.client import Filter, Matches, Status

IDS = click.argument("ids", metavar="[ID...]", nargs=-1)
YES = click.option("-y", "--yes", is_flag=True, help="With a filter: ask nothing.")
DRY_RUN = click.option("--dry-run", is_flag=True, help="With a filter: show how many jobs fit it, and do nothing.")
# The question before an order, and what has been done to each job by it.
QUESTIONS = {"retry": "Retry them?", "cancel": "Cancel them?", "delete": "Delete their results?"}
DONE = {"retry": "jobs resubmitted", "cancel": "jobs cancelled", "delete": "results deleted"}
# Tasks that a question names.
SHOWN = 5


def about_many(command: Callable[..., None]) -> Callable[..., None]:
    """Add the arguments of an order that takes ids or a filter."""
    return IDS(YES(DRY_RUN(filtered(command))))


def is_about_many(order: str, ids: Sequence[str], given: dict[str, Any]) -> bool:
    """Whether a filter is given, and no ids. End if both are, or neither."""
    see = f"see headway {order} --help"
    if ids and given["wanted"]:
        fail(f"expected ids or a filter, not both: {see}", EXIT_USAGE)
    if not ids and not given["wanted"]:
        fail(f"expected an id, or a filter such as --failed or --task: {see}", EXIT_USAGE)
    if ids and (given["dry_run"] or given["yes"]):
        fail(f"--dry-run and --yes need a filter such as --failed or --task, and no ids: {see}", EXIT_USAGE)
    return not ids


def order_many(
    order: str,
    *,
    wanted: Filter,
    yes: bool,
    dry_run: bool,
    as_json: bool,
    url: str | None,
    patience: float | None,
) -> None:
    """Give an order about all jobs that fit, wait until it is carried out, and end with the exit code."""
    from headway.client import orders

    with server.errors(), server.client(url, patience) as client:
        if not yes or dry_run:
            found = client.run(orders.dry_run(client.roads, order, wanted))
            if dry_run:
                _show(found, as_json)
                return
            if found.matches:
                _ask(order, found)
            elif not as_json:
                click.echo("no job fits")
                return
        job_id = client.run(orders.of_many(client.roads, order, wanted)).job_id
    if on_terminal(sys.stderr):
        # So that it is known after Ctrl-C, which the order outlives.
        click.echo(f"job {job_id}", err=True)
    sys.exit(_wait(order, job_id, as_json, url, patience))


def _show(found: Matches, as_json: bool) -> None:
    """Write the answer to a dry run."""
    if as_json:
        say_json({"matches": found.matches, "by_task": dict(found.by_task)})
    else:
        click.echo(_text(found))


def _text(found: Matches) -> str:
    """Return how many jobs fit, with their tasks."""
    most = sorted(found.by_task.items(), key=lambda pair: -pair[1])
    tasks = [f"{count:,} of {one_line(task)}" for task, count in most[:SHOWN]]
    if len(most) > SHOWN:
        tasks.append(f"{sum(count for _, count in most[SHOWN:]):,} of other tasks")
    return f"{found.matches:,} jobs{': ' if tasks else ''}{', '.join(tasks)}"


def _ask(order: str, found: Matches) -> None:
    """Ask a person. End if there is none, or with Abort if the answer is no."""
    if not on_terminal(sys.stdin):
        fail(f"{_text(found)}: --yes is needed where nobody can be asked", EXIT_USAGE)
    click.confirm(f"{_text(found)}. {QUESTIONS[order]}", abort=True, err=True)


def _wait(order: str, job_id: str, as_json: bool, url: str | None, patience: float | None) -> int:
    """Wait for the job of an order, write its result, and return the exit code."""
    from headway.cli.wait import wait_for

    ended: list[Status] = []
    with server.errors():
        code = wait_for([job_id], url, patience, timeout=None, tell=ended.append)
        if code:
            for status in ended:
                click.echo(f"headway: job {job_id} {status.state}: {one_line(status.detail or '')}", err=True)
            return code
        with server.client(url, patience) as client:
            counts = client.job(job_id).result(timeout=0)
    counts = {name: counts.get(name, 0) for name in ("matched", "done", "skipped")}
    if as_json:
        say_json({"id": job_id, **counts})
    else:
        skipped = f", {counts['skipped']:,} skipped" if counts["skipped"] else ""
        click.echo(f"{counts['done']:,} of {counts['matched']:,} {DONE[order]}{skipped}")
    return 0
