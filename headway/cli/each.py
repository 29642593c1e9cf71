"""A command about several jobs: it acts on each, and goes on after one that is unknown or refused."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from headway.cli import server

if TYPE_CHECKING:
    from headway.client import Client

command = partial(click.command, epilog=server.EPILOG)
ID = click.argument("job_id", metavar="ID")
IDS = click.argument("ids", metavar="ID...", nargs=-1, required=True)


def for_each(ids: Sequence[str], act: Callable[[Client, str], int], url: str | None, patience: float | None) -> None:
    """Act on each job, go on after one that is unknown or refused, and end with the exit code."""
    codes = set()
    with server.errors(), server.client(url, patience) as client:
        from headway.client import JobExpired, NotIssued, Refused

        with server.usage():
            # Before anything is done.
            for job_id in ids:
                client.job(job_id)
        for job_id in ids:
            try:
                codes.add(act(client, job_id))
            except (JobExpired, NotIssued, Refused) as error:
                about = f"job {job_id}: " if isinstance(error, Refused) else ""
                click.echo(f"headway: {about}{server.text_of(error)}", err=True)
                codes.add(server.code_of(error))
    sys.exit(min(codes - {0}, default=0))
