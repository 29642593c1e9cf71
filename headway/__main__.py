"""The command line: ``headway`` and ``python -m headway``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from headway.core.config import CONFIG_VARIABLE, Config, load
from headway.core.errors import ConfigError

DEFAULT_FILE = Path("config.yaml")
EXIT_CONFIG = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="headway", message="%(prog)s %(version)s")
def main() -> None:
    """Headway, a job server: POST a job, get 202 and a URL, read its state off a HEAD."""


@main.command()
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    envvar=CONFIG_VARIABLE,
    help="Settings, YAML.  [default: config.yaml where there is one]",
)
@click.option("--check", is_flag=True, help="Read the settings and the task modules, say what is wrong, and end.")
def serve(file: Path | None, check: bool) -> None:
    """Serve jobs over HTTP until SIGTERM or SIGINT.

    Each setting can also be given as a variable, for instance HEADWAY_SERVER__PORT=9001 or HEADWAY_WORKERS=64.
    """
    from headway.protocol import server

    try:
        config = _settings(file)
        if check:
            server.check(config)
            click.echo("the configuration is good")
            return
        server.run(config)
    except ConfigError as error:
        click.echo(f"headway: {error}", err=True)
        sys.exit(EXIT_CONFIG)


def _settings(file: Path | None) -> Config:
    if file is None and DEFAULT_FILE.exists():
        file = DEFAULT_FILE
    return load(file, os.environ)


if __name__ == "__main__":
    main(prog_name="headway")
