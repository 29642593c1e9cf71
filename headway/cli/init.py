"""The command line: ``headway init``."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from headway.cli.exits import EXIT_USAGE
from headway.cli.settings import fail

# A project to begin with.
STARTER = Path(__file__).parents[1] / "starter"
FILES = ("tasks.py", "headway.yaml", "test_tasks.py")
NEXT = """curl localhost:8080/jobs --json '{"task": "greet", "payload": {"name": "Ada"}}'"""


def _opener(path: str, flags: int) -> int:
    """Open a new file, which others may not change, whatever the umask is."""
    return os.open(path, flags, 0o644)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=".")
def init(folder: Path) -> None:
    """Write a task, its settings and its test into FOLDER, to begin a project with.

    FOLDER is the current one unless it is given. No file is overwritten.
    """
    there = [name for name in FILES if os.path.lexists(folder / name)]
    if there:
        fail(f"{folder / there[0]} is there already: name an empty folder, as in headway init shop", EXIT_USAGE)
    try:
        # The journal will be in it.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in FILES:
            with open(folder / name, "x", encoding="utf-8", opener=_opener) as file:
                file.write((STARTER / name).read_text(encoding="utf-8"))
            click.echo(f"wrote {folder / name}")
    except OSError as error:
        fail(f"{error.filename}: cannot be written: {error.strerror}", EXIT_USAGE)
    enter = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
    click.echo(f"\nServe it, and post a job from another terminal:\n\n    {enter}headway serve\n    {NEXT}")
