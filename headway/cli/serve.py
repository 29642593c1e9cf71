"""The command line: ``headway serve``."""

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
@click.option("--host", help="The address to listen on.  [default: 127.0.0.1]")
@click.option("--port", help="The port, 0 for a free one.  [default: 8080]")
@click.option("--workers", help="How many jobs run at the same time.  [default: 32]")
@click.option("--engine", metavar="URL", help="A Valkey or Redis that many nodes share.  [default: this server alone]")
@click.option("--reload", is_flag=True, help="Deploy when task modules or the settings change. For development.")
@click.option(
    "--check", is_flag=True, help="Check settings, task modules, journal or store, and port. Print the faults. End."
)
def serve(file: Path | None, check: bool, reload: bool, tasks: Sequence[str], **given: str | None) -> None:
    """Serve jobs over HTTP until SIGTERM or SIGINT. SIGHUP deploys new code and settings.

    An option overrides the file. Each setting can also be given as a variable, for instance
    HEADWAY_SERVER__PORT=9001 or HEADWAY_LOG__LEVEL=debug.
    """
    options = {"--tasks": tasks} | {f"--{name}": [text] for name, text in given.items() if text is not None}
    begin(file, options, serves=True, check=check, reload=reload)
