"""The command line: ``headway engine``.

Exit codes: 0, 1 if something is wrong with the store or it cannot be asked, 2 for wrong usage, wrong
settings, and for a file that cannot be written.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from headway.cli.exits import EXIT_USAGE, EXIT_WRONG
from headway.cli.settings import fail, settings

if TYPE_CHECKING:
    from headway.core.config import Config
    from headway.core.visit.visit import Visit


URL = click.option("--engine", "url", metavar="URL", help="The store.  [default: engine of the settings]")


@click.group()
def engine() -> None:
    """Look at the store that nodes share, and move jobs to it or away. Nodes may work meanwhile.

    The store is that of engine in the settings. See docs/cluster.md.
    """


@engine.command()
@URL
def stats(url: str | None) -> None:
    """Show the counts, tasks, nodes and sizes, JSON."""
    import orjson

    with _visit(url) as (_, store):
        from headway.core.visit import report

        click.echo(orjson.dumps(report.stats(store), option=orjson.OPT_INDENT_2))


@engine.command()
@URL
@click.option(
    "--repair", is_flag=True, help="Put all unfinished jobs in their places again. All nodes must be stopped."
)
def check(url: str | None, repair: bool) -> None:
    """Look at each job and print each fault."""
    with _visit(url) as (_, store):
        from headway.core.visit import checking

        wrong = checking.repair(store) if repair else checking.faults(store)
        for line in wrong:
            click.echo(f"headway: {line}", err=True)
        if wrong and not repair:
            sys.exit(EXIT_WRONG)
        click.echo(f"{store.address}: {'repaired' if wrong else 'good'}")


@engine.command()
@URL
@click.option("--jsonl", is_flag=True, default=True, help="As lines of JSON, the only form there is.")
@click.option(
    "--whole", is_flag=True, help="All of it for an import, with the secret of the ids. Stop all nodes first."
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="A new file.  [default: standard output]")
def export(url: str | None, jsonl: bool, whole: bool, out: Path | None) -> None:
    """Write each job, with its payload and its result, as a line of JSON."""
    with _visit(url) as (config, store):
        from headway.core import moved
        from headway.core.visit import departure, report

        if whole:
            # Before there is a file.
            departure.check_idle(store)
        with _output(out) as lines:
            if whole:
                jobs = moved.write(departure.leaving(store, config.idempotency.seconds), lines)
            else:
                jobs = report.export(store, lines)
        click.echo(f"{jobs} jobs", err=True)


@engine.command("import")
@URL
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def import_(url: str | None, file: Path) -> None:
    """Bring all of FILE, a journal or an export --whole, into an empty store. All ids stay valid.

    Stop the server of the journal first. FILE stays as it is.
    """
    with _visit(url) as (config, store):
        from headway.core import moved
        from headway.core.journal import departure
        from headway.core.visit import arrival

        with file.open("rb") as lines:
            if departure.is_journal(file):
                found = departure.leaving(file)
            else:
                # All of it is looked at before the store has any: a part of an export would stay there.
                deque(moved.read(str(file), lines), maxlen=0)
                lines.seek(0)
                found = moved.read(str(file), lines)
            arrived = arrival.arrive(found, store, config.idempotency.seconds)
        expired = f". {arrived.expired} finished jobs had expired" if arrived.expired else ""
        click.echo(f"{store.address}: {arrived.jobs} jobs, {arrived.keys} keys{expired}")


@contextmanager
def _output(out: Path | None) -> Iterator[BinaryIO]:
    """Open a new file that nobody else may read, or standard output."""
    if out is None:
        if sys.stdout is None:
            fail("standard output is closed: name a file by --out", EXIT_USAGE)
        yield sys.stdout.buffer
        return
    try:
        file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        fail(f"{out}: exists. Name a file that does not exist", EXIT_USAGE)
    except OSError as error:
        fail(f"{out}: cannot be written: {error.strerror}", EXIT_USAGE)
    with open(file, "wb") as lines:
        yield lines


@contextmanager
def _visit(url: str | None) -> Iterator[tuple[Config, Visit]]:
    """Open the store of the settings. End with one line if it cannot be asked."""
    config = settings(None, {"--engine": [url] if url else []})
    if config.engine is None:
        fail("engine: no store is named. Give --engine valkey://localhost:6379/0, or set engine", EXIT_USAGE)
    from headway.core.errors import ConfigError, HeadwayError

    try:
        from headway.core.link.address import Address
        from headway.core.visit.visit import opened

        with opened(Address.of(config.engine)) as store:
            yield config, store
    except ModuleNotFoundError as error:
        fail(f"engine: {error.name} is not installed: pip install 'headway[valkey]'", EXIT_USAGE)
    except ConfigError as error:
        fail(error, EXIT_USAGE)
    except HeadwayError as error:
        fail(error, EXIT_WRONG)
