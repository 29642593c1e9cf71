"""The command line: ``headway submit``, ``status``, ``wait``, ``result``, ``cancel``, ``retry`` and ``list``."""

from __future__ import annotations

import base64
import heapq
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headway.cli import payload as payloads
from headway.cli import server
from headway.cli.output import json_line, on_terminal, one_line, say_json
from headway.cli.server import EXITS, SECONDS, asks
from headway.cli.settings import fail

if TYPE_CHECKING:
    from headway.client import Client, Status

STATES = ("scheduled", "queued", "running", "retrying", "succeeded", "failed", "cancelled")
PAGE = 1000
# Members of a status document, as ``headway status`` shows them. ``error`` is added to them.
MEMBERS = ("id", "state", "task", "attempt", "progress", "position", "submitted", "started", "ended", "reason")

command = partial(click.command, epilog=server.EPILOG)
ID = click.argument("job_id", metavar="ID")
IDS = click.argument("ids", metavar="ID...", nargs=-1, required=True)
TIMEOUT = click.option(
    "--timeout", type=SECONDS, metavar="SECONDS", help="End with 124 after so long. The job goes on."
)


@command()
@click.argument("task")
@click.argument("payload", required=False)
@click.option("--content-type", metavar="TYPE", help="The media type of content that is sent as it is.")
@click.option("--priority", type=click.IntRange(0, 9), metavar="0-9", help="9 is taken first.  [default: 5]")
@click.option("--delay", type=SECONDS, metavar="SECONDS", help="Begin so much later.")
@click.option("--timeout", type=SECONDS, metavar="SECONDS", help="The time that an attempt may take.")
@click.option("--deadline", type=SECONDS, metavar="SECONDS", help="The time after which the job fails.")
@click.option("--retries", type=click.IntRange(min=0), metavar="N", help="How many attempts may follow the first.")
@click.option(
    "--durability",
    type=click.Choice(["disk", "process", "memory"]),
    help="Refuse (5) unless the acceptance survives at least this.",
)
@click.option("--idempotency-key", metavar="KEY", help="Submissions with the same key make one job.")
@click.option("--wait", "waits", is_flag=True, help="Wait for the end, and write the result.")
@click.option("--wait-timeout", type=SECONDS, metavar="SECONDS", help="--wait, and end with 124 after so long.")
@asks
def submit(
    task: str,
    payload: str | None,
    content_type: str | None,
    *,
    waits: bool,
    wait_timeout: float | None,
    as_json: bool,
    url: str | None,
    patience: float | None,
    **options: Any,
) -> None:
    """Submit a job, and write its id.

    PAYLOAD is JSON, - for JSON on standard input, or @FILE for a file that is sent as it is. With
    --content-type, PAYLOAD and - are sent as they are, too.
    """
    content, media_type = payloads.read(payload, content_type)
    with server.errors(), server.client(url, patience) as client, server.usage():
        job = client.submit(task, content, media_type=media_type, **options)
    if not waits and wait_timeout is None:
        say_json({"id": job.id, "url": job.url}) if as_json else click.echo(job.id)
        return
    if on_terminal(sys.stderr):
        # So that it is known after Ctrl-C.
        click.echo(f"job {job.id}", err=True)
    _write_result(job.id, url, patience, timeout=wait_timeout, output=None, as_json=as_json)


@command()
@IDS
@asks
def status(ids: Sequence[str], as_json: bool, url: str | None, patience: float | None) -> None:
    """Show the present state of jobs. The exit code of a job that has not finished is 0."""

    def show(client: Client, job_id: str) -> int:
        members = _status_of(client, job_id)
        if as_json:
            say_json(members)
        else:
            for name, value in members.items():
                click.echo(f"{name:<9}  {one_line(str(value))}")
            if job_id != ids[-1]:
                click.echo()
        return EXITS.get(members["state"], 0)

    _for_each(ids, show, url, patience)


@command()
@IDS
@TIMEOUT
@asks
def wait(ids: Sequence[str], timeout: float | None, as_json: bool, url: str | None, patience: float | None) -> None:
    """Wait until jobs have ended, and write a line for each as it ends.

    Goes on through a restart or a deploy of the server.
    """
    from headway.cli.wait import wait_for

    def tell(status: Status) -> None:
        if as_json:
            say_json(_members_of(status))
        else:
            click.echo(one_line(f"{status.id} {status.state} {_reason_of(status)}"))

    with server.errors():
        sys.exit(wait_for(ids, url, patience, timeout=timeout, tell=tell))


@command()
@ID
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write it there.")
@TIMEOUT
@asks
def result(
    job_id: str,
    output: Path | None,
    timeout: float | None,
    *,
    as_json: bool,
    url: str | None,
    patience: float | None,
) -> None:
    """Wait until a job has ended, and write its result as it is.

    With --json the result is a member of a document, in base64 if it is not JSON.
    """
    _write_result(job_id, url, patience, timeout=timeout, output=output, as_json=as_json)


@command()
@IDS
@click.option("--forget", is_flag=True, help="Delete the results of jobs that have finished already.")
@asks
def cancel(ids: Sequence[str], forget: bool, as_json: bool, url: str | None, patience: float | None) -> None:
    """Cancel jobs.

    A job that has succeeded or failed already keeps its result unless --forget is given. The exit
    code is 5 for it then.
    """

    def drop(client: Client, job_id: str) -> int:
        state = client.job(job_id).status().state
        hint = "--forget deletes its result"
        if state not in ("cancelled", "expired") and (forget or state not in ("succeeded", "failed")):
            state, hint = client.job(job_id).cancel().state, "It ended meanwhile, and its result is deleted"
        if state in ("succeeded", "failed") and not forget:
            click.echo(f"headway: job {job_id} has {state} already. {hint}", err=True)
            return server.EXIT_REFUSED
        say_json({"id": job_id, "state": state}) if as_json else click.echo(f"{job_id} {state}")
        return EXITS["expired"] if state == "expired" else 0

    _for_each(ids, drop, url, patience)


@command()
@IDS
@asks
def retry(ids: Sequence[str], as_json: bool, url: str | None, patience: float | None) -> None:
    """Resubmit failed jobs as new ones, and write the new ids."""

    def resubmit(client: Client, job_id: str) -> int:
        job = client.job(job_id).retry()
        say_json({"id": job.id, "url": job.url, "previous": job_id}) if as_json else click.echo(job.id)
        return 0

    _for_each(ids, resubmit, url, patience)


@command("list")
@click.option("--state", "states", type=click.Choice(STATES), multiple=True, help="May be repeated.  [default: all]")
@click.option("--limit", type=click.IntRange(min=1), default=50, metavar="N", help="At most so many.  [default: 50]")
@click.option("-q", "--quiet", is_flag=True, help="Write the ids alone.")
@asks
def list_jobs(
    states: Sequence[str], limit: int, quiet: bool, *, as_json: bool, url: str | None, patience: float | None
) -> None:
    """List jobs, newest first."""
    with server.errors(), server.client(url, patience) as client:
        lists = [_listed(client, state, limit) for state in dict.fromkeys(states or STATES)]
        merged = heapq.merge(*lists, key=lambda job: (job["submitted"], job["id"]), reverse=True)
        jobs = islice(merged, limit)
        # The first shows that there is a server.
        first = list(islice(jobs, 1))
        if not as_json and not quiet:
            click.echo(f"{'ID':<36}  {'STATE':<9}  {'SUBMITTED':<24}  TASK")
        for job in chain(first, jobs):
            if as_json:
                say_json(job)
            elif quiet:
                click.echo(job["id"])
            else:
                click.echo(f"{job['id']}  {job['state']:<9}  {job['submitted']:<24}  {one_line(job['task'])}")


def _listed(client: Client, state: str, limit: int) -> Iterator[dict[str, Any]]:
    """Yield the jobs in a state, newest first. Pages are read as they are needed."""
    path: str | None = f"/jobs?state={state}&limit={min(limit, PAGE)}"
    while path is not None:
        page = server.document(client, path, member="jobs")
        yield from page["jobs"]
        following = page["next"]
        path = following and f"/jobs?{following.partition('?')[2]}"


def _for_each(ids: Sequence[str], act: Callable[[Client, str], int], url: str | None, patience: float | None) -> None:
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


def _status_of(client: Client, job_id: str) -> dict[str, Any]:
    """Return the facts about a job."""
    from headway.client import answers
    from headway.client.exchange import Send

    response = client.run(client.roads.exchange(Send("GET", f"/jobs/{client.job(job_id).id}")))
    status, document = answers.status(response, job_id), answers.document(response)
    # A job that failed, or is no longer kept, is told by a problem document.
    members = {name: document[name] for name in MEMBERS if name in document}
    return members | ({"error": status.detail} if status.state == "failed" else {})


def _members_of(status: Status) -> dict[str, Any]:
    """Return the facts that a wait has told."""
    members = {"id": status.id, "state": status.state, "attempt": status.attempt, "reason": status.reason}
    members["error"] = status.detail if status.state == "failed" else None
    return {name: value for name, value in members.items() if value is not None}


def _reason_of(status: Status) -> str:
    """Return why a job failed, empty for other jobs."""
    return f"in attempt {status.attempt} ({status.reason}): {status.detail}" if status.state == "failed" else ""


def _write_result(
    job_id: str, url: str | None, patience: float | None, *, timeout: float | None, output: Path | None, as_json: bool
) -> None:
    """Wait for the end of a job, write its result, and end if it has none."""
    from headway.cli.wait import wait_for

    ended: list[Status] = []
    with server.errors():
        code = wait_for([job_id], url, patience, timeout=timeout, tell=ended.append)
        if not ended or (as_json and code):
            for status in ended:
                say_json(_members_of(status))
            sys.exit(code)
        with server.client(url, patience) as client:
            data, media_type = client.job(job_id).raw_result(timeout=0)
    if as_json:
        members = {**_members_of(ended[0]), **_result_members(data, media_type)}
        data = json_line(members).encode() + b"\n"
    if output is not None:
        try:
            output.write_bytes(data)
        except OSError as error:
            fail(f"{output}: cannot be written: {error.strerror}", server.EXIT_USAGE)
        return
    if on_terminal(sys.stdout):
        if not as_json and not media_type.startswith(("text/", "application/json")):
            fail(f"the result is {media_type}: name a file with -o", server.EXIT_USAGE)
        data = data if data.endswith(b"\n") else data + b"\n"
    click.echo(data, nl=False)


def _result_members(data: bytes, media_type: str) -> dict[str, Any]:
    """Return a result as members of a document."""
    if media_type.partition(";")[0].strip() == "application/json":
        # A task may send bytes as JSON that are none.
        with suppress(ValueError, RecursionError):
            return {"media_type": media_type, "result": json.loads(data)}
    return {"media_type": media_type, "base64": base64.b64encode(data).decode()}
