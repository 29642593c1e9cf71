"""The command line: ``headway submit``, ``status``, ``wait``, ``result`` and ``payload``."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from headway.cli import payload as payloads
from headway.cli import server
from headway.cli.each import ID, IDS, command, for_each
from headway.cli.exits import EXIT_USAGE
from headway.cli.facts import facts_of, lines_of
from headway.cli.output import json_line, on_terminal, one_line, plain_text, say_json
from headway.cli.server import EXITS, SECONDS, asks
from headway.cli.settings import fail

if TYPE_CHECKING:
    from headway.client import Client, Status

OUTPUT = click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write it there."
)
TIMEOUT = click.option("--timeout", type=SECONDS, metavar="TIME", help="End with 124 after so long. The job goes on.")


@command()
@click.argument("task")
@click.argument("payload", required=False)
@click.option("--content-type", metavar="TYPE", help="The media type of content that is sent as it is.")
@click.option("--priority", type=click.IntRange(0, 9), metavar="0-9", help="9 is taken first.  [default: 5]")
@click.option("--delay", type=SECONDS, metavar="TIME", help="Begin so much later.")
@click.option("--timeout", type=SECONDS, metavar="TIME", help="The time that an attempt may take.")
@click.option("--deadline", type=SECONDS, metavar="TIME", help="The time after which the job fails.")
@click.option("--retries", type=click.IntRange(min=0), metavar="N", help="How many attempts may follow the first.")
@click.option(
    "--durability",
    type=click.Choice(["disk", "process", "memory"]),
    help="Refuse (5) unless the acceptance survives at least this.",
)
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="A label to find it by. May be repeated.")
@click.option("--keep", type=SECONDS, metavar="TIME", help="Keep it for so long when it has finished.")
@click.option("--idempotency-key", metavar="KEY", help="Submissions with the same key make one job.")
@click.option("--wait", "waits", is_flag=True, help="Wait for the end, and write the result.")
@click.option("--wait-timeout", type=SECONDS, metavar="TIME", help="--wait, and end with 124 after so long.")
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
    --content-type, PAYLOAD and - are sent as they are, too. One that begins with a dash, such as -1,
    comes behind --.
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
@click.option("-v", "--traceback", is_flag=True, help="With the traceback of each attempt that failed.")
@asks
def status(ids: Sequence[str], traceback: bool, *, as_json: bool, url: str | None, patience: float | None) -> None:
    """Show the present state of jobs, and their attempts. The exit code of a job that has not finished is 0."""

    def show(client: Client, job_id: str) -> int:
        found = client.job(job_id).status()
        if as_json:
            say_json(facts_of(found))
        else:
            for line in lines_of(found, traceback):
                click.echo(line)
            if job_id != ids[-1]:
                click.echo()
        return EXITS.get(found.state, 0)

    for_each(ids, show, url, patience)


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
@OUTPUT
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
@ID
@OUTPUT
@asks
def payload(job_id: str, output: Path | None, *, as_json: bool, url: str | None, patience: float | None) -> None:
    """Write the payload of a job as it was sent.

    The server keeps it until the job has succeeded. With --json it is a member of a document, in
    base64 if it is not JSON.
    """
    with server.errors(), server.client(url, patience) as client, server.usage():
        data, media_type = client.job(job_id).raw_payload()
    if as_json:
        data = json_line({"id": job_id, **_content_members("payload", data, media_type)}).encode() + b"\n"
    _write("payload", data, media_type, output=output, as_json=as_json)


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
        members = {**_members_of(ended[0]), **_content_members("result", data, media_type)}
        data = json_line(members).encode() + b"\n"
    _write("result", data, media_type, output=output, as_json=as_json)


def _write(name: str, data: bytes, media_type: str, *, output: Path | None, as_json: bool) -> None:
    """Write content to a file or to standard output."""
    if output is not None:
        try:
            output.write_bytes(data)
        except OSError as error:
            fail(f"{output}: cannot be written: {error.strerror}", EXIT_USAGE)
        return
    if on_terminal(sys.stdout):
        if not as_json and not media_type.startswith(("text/", "application/json")):
            fail(f"the {name} is {media_type}: name a file with -o", EXIT_USAGE)
        if not as_json:
            data = plain_text(data.decode(errors="replace")).encode()
        data = data if data.endswith(b"\n") else data + b"\n"
    click.echo(data, nl=False)


def _content_members(name: str, data: bytes, media_type: str) -> dict[str, Any]:
    """Return content as members of a document."""
    if media_type.partition(";")[0].strip() == "application/json":
        # A task may send bytes as JSON that are none.
        with suppress(ValueError, RecursionError):
            return {"media_type": media_type, name: json.loads(data)}
    return {"media_type": media_type, "base64": base64.b64encode(data).decode()}
