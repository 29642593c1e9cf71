"""The command line: ``headway serve``."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headway.cli.settings import EXIT_CONFIG, FILES, fail, left_out, named_file, settings

if TYPE_CHECKING:
    from headway.core.config import Config
    from headway.protocol.process.reload import Watch


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
    watch = _watch(file) if reload else None
    options = {"--tasks": tasks} | {f"--{name}": [text] for name, text in given.items() if text is not None}
    config = settings(file, options)
    remark = left_out(file)
    if check:
        _check(config, remark)
        return
    from headway.core.errors import ConfigError, JournalError
    from headway.protocol import node, server

    try:
        server.run(config if watch is None else _brief(config), remark, watch)
    except ConfigError as error:
        fail(error, EXIT_CONFIG)
    except JournalError as error:
        fail(error, node.EXIT_JOURNAL)


def _watch(file: Path | None) -> Watch:
    """Return a watch on the settings, and later on the task modules."""
    if importlib.util.find_spec("watchfiles") is None:
        fail("--reload: watchfiles is not installed: pip install 'headway[reload]'", EXIT_CONFIG)
    from headway.protocol.process.reload import Watch

    return Watch(FILES if file is None else [file])


def _brief(config: Config) -> Config:
    """Return settings with which a deploy does not wait for long."""
    import msgspec

    from headway.protocol.process.reload import DRAIN_S

    return msgspec.structs.replace(config, drain_timeout=min(config.drain_timeout, DRAIN_S))


def _check(config: Config, remark: str | None) -> None:
    """Print each fault, or each remark if there is none. End with EXIT_CONFIG after a fault."""
    from headway.protocol import check
    from headway.protocol.process import signals

    wrong = list(check.faults(config))
    for line in wrong or filter(None, [remark, *check.remarks(config)]):
        click.echo(f"headway: {line}", err=True)
    if not wrong:
        click.echo("the configuration is good")
    # Neither atexit handlers of task modules nor threads that they have started may delay the end
    # without limit.
    signals.leave(lambda: signals.end(EXIT_CONFIG if wrong else 0))
