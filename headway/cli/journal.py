"""The command line: ``headway journal``.

Exit codes: 0, 1 if something is wrong with the journal, 2 for wrong usage, and for a file that
exists already or cannot be written.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, BinaryIO

import click

from headway.cli.exits import EXIT_USAGE, EXIT_WRONG
from headway.cli.settings import fail, settings


def _default() -> Path:
    """Return the journal that the settings name."""
    path = settings(None).journal.file(os.environ)
    if path is None:
        raise click.UsageError("journal.path is null: name the file")
    return path


FILE = click.argument("path", default=_default, type=click.Path(path_type=Path, exists=True, dir_okay=False))


class PrivateFile(click.File):
    """A file to write, or standard output. Nobody but its owner can read a file that it makes."""

    def convert(
        self, value: str | os.PathLike[str] | IO[Any], param: click.Parameter | None, ctx: click.Context | None
    ) -> IO[Any]:
        """Return the open file."""
        if value == "-" and sys.stdout is None:
            self.fail("standard output is closed: name a file", param, ctx)
        if isinstance(value, str) and value != "-":
            with suppress(OSError):
                os.close(os.open(value, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return super().convert(value, param, ctx)


@click.group()
def journal() -> None:
    """Look at a journal, also while a server uses it. Save the readable part of a damaged one.

    PATH is journal.path of the settings unless it is given.
    """


@journal.command()
@FILE
def check(path: Path) -> None:
    """Read all of it and print each fault."""
    from headway.core.journal import report

    wrong = report.check(path)
    for line in wrong:
        click.echo(f"headway: {line}", err=True)
    if wrong:
        sys.exit(EXIT_WRONG)
    click.echo(f"{path}: good")


@journal.command()
@FILE
def stats(path: Path) -> None:
    """Show the counts and sizes in it, JSON."""
    import orjson

    from headway.core.journal import report

    _say(lambda: click.echo(orjson.dumps(report.stats(path), option=orjson.OPT_INDENT_2)))


@journal.command()
@FILE
@click.option("--jsonl", is_flag=True, default=True, help="As lines of JSON, the only form there is.")
@click.option("--out", type=PrivateFile("wb"), default="-", help="A file.  [default: standard output]")
def export(path: Path, jsonl: bool, out: BinaryIO) -> None:
    """Write each job, with its payload and its result, as a line of JSON."""
    from headway.core.journal import report

    _say(lambda: click.echo(f"{report.export(path, out)} jobs", err=True))


@journal.command()
@FILE
@click.argument("new", type=click.Path(path_type=Path))
def recover(path: Path, new: Path) -> None:
    """Save the readable part of a damaged journal into a NEW one. The old one stays as it is.

    The exit code is 1 if no job of a damaged journal, or no id of its clients, could be saved.
    """
    from headway.core.journal import salvage

    def save() -> None:
        saved = salvage.recover(path, new)
        click.echo(
            f"{new}: {saved.jobs} jobs, {saved.results} results, {saved.keys} keys. "
            f"{saved.doubtful} of these rows were on damaged pages"
            + ("" if saved.whole else ". Others could not be read")
        )
        wrong = []
        if not saved.ids_kept:
            wrong.append("the secret of the ids could not be read: ids that clients hold answer 404")
        if not (saved.jobs or saved.whole):
            wrong.append(f"no job of {path} could be read")
        for line in wrong:
            click.echo(f"headway: {line}", err=True)
        if wrong:
            sys.exit(EXIT_WRONG)

    _say(save)


@journal.command()
@click.argument("paths", metavar="[PATH] FILE", nargs=-1, type=click.Path(path_type=Path))
def backup(paths: tuple[Path, ...]) -> None:
    """Copy all of it to FILE, and its attempts to FILE-attempts, also while a server writes.

    FILE must not exist. docs/deploy.md has the way back.
    """
    from headway.core.journal import backup

    if len(paths) not in (1, 2):
        raise click.UsageError("name the FILE to copy the journal to, after PATH if that is given")
    path, file = (_default(), *paths)[-2:]
    if not path.is_file():
        raise click.UsageError(f"{path}: there is no such journal. Name it before FILE")
    _say(lambda: click.echo(f"{file}: {backup.backup(path, file)} jobs"))


@journal.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("new", type=click.Path(path_type=Path))
def import_(file: Path, new: Path) -> None:
    """Make a NEW journal of FILE, an export by headway engine export --whole. Its ids stay valid."""
    from headway.core import moved
    from headway.core.journal import arrival

    def make() -> None:
        with file.open("rb") as lines:
            click.echo(f"{new}: {arrival.arrive(moved.read(str(file), lines), new)} jobs")

    _say(make)


def _say(what: Callable[[], None]) -> None:
    from headway.core.errors import CopyError, JournalError, MoveError

    try:
        what()
    except CopyError as error:
        fail(error, EXIT_USAGE)
    except (JournalError, MoveError) as error:
        fail(error, EXIT_WRONG)
