"""The settings of the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote

import click

from headway.cli.exits import EXIT_USAGE

if TYPE_CHECKING:
    from headway.core.config import Config

# The files that are looked for in the current folder, the first one first.
FILES = (Path("headway.yaml"), Path("config.yaml"))
# The one whose name other programs use, too.
ANYONES = FILES[1]
# The variables that may say where the server listens.
OF_ADDRESS = (
    "HEADWAY_CONFIG",
    *("HEADWAY_SERVER", "HEADWAY_SERVER__HOST", "HEADWAY_SERVER__PORT", "HEADWAY_SERVER__SOCKET"),
    *("HEADWAY_SERVER__TLS", "HEADWAY_SERVER__TLS__CERTIFICATE"),
    *("HEADWAY_HTTP", "HEADWAY_HTTP__BASE_PATH"),
)


def named_file() -> str | None:
    """Return the file that HEADWAY_CONFIG names, None if it is not set."""
    from headway.core.config_sources import CONFIG_VARIABLE

    return os.environ.get(CONFIG_VARIABLE) or None


def usual_file() -> Path | None:
    """Return the first of FILES that exists, None if none does."""
    return next((file for file in FILES if file.exists()), None)


def left_out(file: Path | None) -> str | None:
    """Return a line if ``file`` is None, so that the usual one is read, and another lies beside it."""
    there = [str(path) for path in FILES if file is None and path.exists()]
    return f"settings: {there[0]} is read, {there[1]} beside it is not" if len(there) > 1 else None


def settings(file: Path | None, options: Mapping[str, Sequence[str]] | None = None) -> Config:
    """Read a file, then the HEADWAY_* variables, then ``options``. End on a fault.

    The file is ``file``, else the one that HEADWAY_CONFIG names, else the usual one.
    """
    # 20 ms, for msgspec and YAML, which ``--help`` does not need.
    from headway.core.config_sources import load
    from headway.core.errors import ConfigError

    if file is None:
        named = named_file()
        file = usual_file() if named is None else Path(named)
    try:
        return load(file, os.environ, options)
    except ConfigError as error:
        fail(error, EXIT_USAGE)


def named_address() -> str | None:
    """Return the URL that HEADWAY_URL names, None if it is not set."""
    url = os.environ.get("HEADWAY_URL")
    return with_scheme(url) if url else None


def with_scheme(url: str) -> str:
    """Return ``url`` with the scheme that may be left out."""
    return url if "://" in url else f"http://{url}"


def address(config: Config) -> str:
    """Return the URL at which a server with these settings can be reached from its own machine."""
    if config.server.socket is not None:
        path = quote(os.path.abspath(config.server.socket), safe="")
        return f"{config.server.scheme}+unix://{path}{config.http.base}"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.server.host, config.server.host)  # noqa: S104
    host = f"[{host}]" if ":" in host else host
    return f"{config.server.scheme}://{host}:{config.server.port}{config.http.base}"


def usual_address() -> str | None:
    """Return the URL of the server of the usual settings, None if there are none or it has any port.

    End on a fault of the settings, but for those of a ``config.yaml`` here that HEADWAY_CONFIG does
    not name. It may be of another program. ``headway serve`` tells its faults.
    """
    file = usual_file()
    if file is None and not any(name in os.environ for name in OF_ADDRESS):
        return None
    from headway.core.config_sources import load
    from headway.core.errors import ConfigError

    named = named_file()
    if named is not None:
        file = Path(named)
    elif file == ANYONES and not _usable(file):
        file = None
    try:
        config = load(file, os.environ)
    except ConfigError as error:
        fail(error, EXIT_USAGE)
    return address(config) if config.server.port or config.server.socket else None


def _usable(file: Path) -> bool:
    """Whether all of a file is settings."""
    from headway.core.config_sources import load
    from headway.core.errors import ConfigError

    try:
        load(file, {})
    except ConfigError:
        return False
    return True


def fail(error: Exception | str, code: int) -> NoReturn:
    """Print the error in one line, and end."""
    click.echo(f"headway: {error}", err=True)
    sys.exit(code)
