"""The command line: ``headway work``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from headway.cli.node import begin
from headway.cli.settings import named_file


@click.command()
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    default=named_file,
    help="Settings, YAML.  [default: headway.yaml or config.yaml if there is one]",
)
@click.option("--tasks", metavar="MODULE,…", multiple=True, help="Modules with tasks. May be repeated.")
@click.option("--workers", help="How many jobs run at the same time.  [default: 32]")
@click.option("--engine", metavar="URL", help="The Valkey or Redis that the nodes share, as valkey://localhost:6379/0.")
@click.option("--reload", is_flag=True, help="Deploy when task modules or the settings change. For development.")
@click.option("--check", is_flag=True, help="Check settings, task modules and store. Print the faults. End.")
def work(file: Path | None, check: bool, reload: bool, tasks: Sequence[str], **given: str | None) -> None:
    """Run jobs of a queue that nodes share, without HTTP, until SIGTERM or SIGINT. SIGHUP deploys.

    It takes the settings of ``headway serve``, and needs engine. See docs/cluster.md.
    """
    options = {"--tasks": tasks} | {f"--{name}": [text] for name, text in given.items() if text is not None}
    begin(file, options, serves=False, check=check, reload=reload)
