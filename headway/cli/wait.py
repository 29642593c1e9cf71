"""Waiting for jobs: all at once, each told as it ends, with a progress bar on a terminal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

import click

from headway.cli.bar import Bar
from headway.cli.exits import EXIT_TIMED_OUT
from headway.cli.server import EXITS, code_of, text_of, usage, waiting_client
from headway.client import AsyncClient, AsyncJob, HeadwayError, NotIssued, Refused, Status, TimedOut

# Seconds between two looks at the progress of a single job, for the bar alone.
LOOK_S = 1.0


def wait_for(
    ids: Sequence[str],
    url: str | None,
    patience: float | None,
    *,
    timeout: float | None,
    tell: Callable[[Status], None],
) -> int:
    """Wait until all jobs have ended, ``tell`` each end, and return the exit code.

    Raises HeadwayError if the server gives no useful answer.
    """
    client = waiting_client(url, patience)
    with usage():
        jobs = [client.job(job_id) for job_id in dict.fromkeys(ids)]
    try:
        with Bar([job.id for job in jobs]) as bar:
            codes = asyncio.run(_wait(client, jobs, timeout, tell, bar))
    except BaseExceptionGroup as group:
        # Each wait finds the same.
        raise group.exceptions[0] from None
    return min((code for code in codes if code), default=0)


async def _wait(
    client: AsyncClient, jobs: Sequence[AsyncJob], timeout_s: float | None, tell: Callable[[Status], None], bar: Bar
) -> list[int]:
    """Wait for all jobs, and return the exit code of each."""

    async def wait(job: AsyncJob) -> int:
        try:
            status = await job.wait(timeout_s)
        except TimedOut as error:
            if len(jobs) == 1:
                click.echo(f"headway: {text_of(error)}", err=True)
            return EXIT_TIMED_OUT
        except (NotIssued, Refused) as error:
            about = f"job {job.id}: " if isinstance(error, Refused) else ""
            click.echo(f"headway: {about}{text_of(error)}", err=True)
            return code_of(error)
        finally:
            bar.advance()
        tell(status)
        return EXITS[status.state]

    async with client, asyncio.TaskGroup() as group:
        waits = [group.create_task(wait(job)) for job in jobs]
        if bar.shown and len(jobs) == 1:
            watch = group.create_task(_watch(jobs[0], bar))
            waits[0].add_done_callback(lambda _: watch.cancel())
    codes = [wait.result() for wait in waits]
    if len(jobs) > 1 and (late := codes.count(EXIT_TIMED_OUT)):
        click.echo(f"headway: {late} of {len(jobs)} jobs have not finished after {timeout_s} s, and go on", err=True)
    return codes


async def _watch(job: AsyncJob, bar: Bar) -> None:
    """Show the state and the progress of a job."""
    while True:
        # The wait itself tells of errors.
        with suppress(HeadwayError):
            bar.show(await job.status())
        await asyncio.sleep(LOOK_S)
