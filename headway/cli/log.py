"""The command line: ``headway log``."""

from __future__ import annotations

import sys

import click

from headway.cli import server
from headway.cli.each import ID, command
from headway.cli.output import plain_text, say_json
from headway.cli.server import EXITS, asks


@command()
@ID
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended, and end with its exit code.")
@click.option(
    "-c", "--bytes", "size", type=click.IntRange(min=1), metavar="N", help="Begin with the last N bytes of the log."
)
@click.option("--raw", is_flag=True, help="Write colours and control characters to a terminal, too.")
@asks
def log(
    job_id: str,
    follow: bool,
    size: int | None,
    *,
    raw: bool,
    as_json: bool,
    url: str | None,
    patience: float | None,
) -> None:
    """Write the log of a job: the text of its attempts, in their order.

    --follow goes on through a restart or a deploy of the server.
    """
    start = -size if size else 0
    plain = not raw and sys.stdout is not None and sys.stdout.isatty()
    with server.errors(), server.client(url, patience, waits=follow) as client:
        with server.usage():
            job = client.job(job_id)
        for text in job.follow_log(start) if follow else [job.log(start)]:
            if as_json:
                say_json({"id": job_id, "state": text.state, "start": text.start, "end": text.end, "text": text})
            else:
                # As bytes, since a str would lose its colours in a pipe.
                click.echo(plain_text(text) if plain else text.encode(), nl=False)
        code = EXITS.get(job.status().state, 0) if follow else 0
    sys.exit(code)
