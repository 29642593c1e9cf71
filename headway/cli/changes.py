"""The command line: ``headway cancel``, ``retry``, ``delete``, ``change`` and ``run-now``.

The first three take ids, or a filter for all jobs that fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from headway.cli.each import IDS, command, for_each
from headway.cli.exits import EXIT_REFUSED, EXIT_USAGE
from headway.cli.many import about_many, is_about_many, order_many
from headway.cli.output import say_json
from headway.cli.server import EXITS, SECONDS, asks
from headway.cli.settings import fail

if TYPE_CHECKING:
    from headway.client import Client


@command()
@about_many
@click.option("--forget", is_flag=True, help="Delete the results of jobs that have finished already.")
@asks
def cancel(ids: Sequence[str], forget: bool, url: str | None, patience: float | None, **order: Any) -> None:
    """Cancel jobs: those of ids, or all unfinished ones that fit a filter.

    A job that has succeeded or failed already keeps its result unless --forget is given. The exit
    code is 5 for it then.
    """
    if is_about_many("cancel", ids, order):
        if forget:
            fail("--forget needs ids: headway delete deletes the results of jobs that fit", EXIT_USAGE)
        order_many("cancel", url=url, patience=patience, **order)
        return

    def drop(client: Client, job_id: str) -> int:
        state = client.job(job_id).status().state
        hint = "--forget deletes its result"
        if state not in ("cancelled", "expired") and (forget or state not in ("succeeded", "failed")):
            state, hint = client.job(job_id).cancel().state, "It ended meanwhile, and its result is deleted"
        if state in ("succeeded", "failed") and not forget:
            click.echo(f"headway: job {job_id} has {state} already. {hint}", err=True)
            return EXIT_REFUSED
        return _tell(job_id, state, order["as_json"])

    for_each(ids, drop, url, patience)


@command()
@about_many
@asks
def retry(ids: Sequence[str], url: str | None, patience: float | None, **order: Any) -> None:
    """Resubmit failed jobs as new ones, and write the new ids: those of ids, or all that fit a filter."""
    if is_about_many("retry", ids, order):
        order_many("retry", url=url, patience=patience, **order)
        return

    def resubmit(client: Client, job_id: str) -> int:
        job = client.job(job_id).retry()
        members = {"id": job.id, "url": job.url, "previous": job_id}
        say_json(members) if order["as_json"] else click.echo(job.id)
        return 0

    for_each(ids, resubmit, url, patience)


@command()
@about_many
@asks
def delete(ids: Sequence[str], url: str | None, patience: float | None, **order: Any) -> None:
    """Delete the results of finished jobs: those of ids, or all that fit a filter.

    A job that has not finished is left. The exit code is 5 for it then.
    """
    if is_about_many("delete", ids, order):
        order_many("delete", url=url, patience=patience, **order)
        return

    def drop(client: Client, job_id: str) -> int:
        status = client.job(job_id).status()
        if not status.finished:
            click.echo(f"headway: job {job_id} is {status.state}. headway cancel {job_id} ends it", err=True)
            return EXIT_REFUSED
        state = status.state if status.state == "expired" else client.job(job_id).cancel().state
        return _tell(job_id, state, order["as_json"])

    for_each(ids, drop, url, patience)


@command()
@IDS
@click.option("--priority", type=click.IntRange(0, 9), metavar="0-9", help="9 is taken first.")
@click.option("--delay", type=SECONDS, metavar="TIME", help="Begin in so long from now.")
@asks
def change(
    ids: Sequence[str],
    priority: int | None,
    delay: float | None,
    *,
    as_json: bool,
    url: str | None,
    patience: float | None,
) -> None:
    """Change the priority or the delay of jobs that wait."""
    if priority is None and delay is None:
        fail("nothing to change: expected --priority or --delay, see headway change --help", EXIT_USAGE)
    _change(ids, as_json, url, patience, priority=priority, delay=delay)


@command("run-now")
@IDS
@asks
def run_now(ids: Sequence[str], as_json: bool, url: str | None, patience: float | None) -> None:
    """Run jobs now that are scheduled for later, or wait for another attempt."""
    _change(ids, as_json, url, patience, priority=None, delay=0)


def _change(
    ids: Sequence[str],
    as_json: bool,
    url: str | None,
    patience: float | None,
    *,
    priority: int | None,
    delay: float | None,
) -> None:
    def turn(client: Client, job_id: str) -> int:
        return _tell(job_id, client.job(job_id).change(priority=priority, delay=delay).state, as_json)

    for_each(ids, turn, url, patience)


def _tell(job_id: str, state: str, as_json: bool) -> int:
    """Write the state of a job after a change, and return the exit code."""
    say_json({"id": job_id, "state": state}) if as_json else click.echo(f"{job_id} {state}")
    return EXITS["expired"] if state == "expired" else 0
