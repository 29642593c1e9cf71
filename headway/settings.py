"""The settings of the command line."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from headway.core.config import Config

DEFAULT_FILE = Path("config.yaml")
EXIT_CONFIG = 2


def named_file() -> str | None:
    """Return the file that HEADWAY_CONFIG names, None if it is not set."""
    from headway.core.config import CONFIG_VARIABLE

    return os.environ.get(CONFIG_VARIABLE) or None


def settings(file: Path | None) -> Config:
    """Read ``file``, or config.yaml if there is one, and the HEADWAY_* variables. End on a fault."""
    # 20 ms, for msgspec and YAML, which ``--help`` does not need.
    from headway.core.config import load
    from headway.core.errors import ConfigError

    if file is None and DEFAULT_FILE.exists():
        file = DEFAULT_FILE
    try:
        return load(file, os.environ)
    except ConfigError as error:
        fail(error, EXIT_CONFIG)


def fail(error: Exception, code: int) -> NoReturn:
    """Print the error in one line, and end."""
    click.echo(f"headway: {error}", err=True)
    sys.exit(code)
