"""The process of a node, as ``headway serve`` and ``headway work`` begin it."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headway.cli.exits import EXIT_USAGE
from headway.cli.settings import FILES, fail, left_out, settings

# As protocol/process/parts.py has it. No other start imports that.
PART = "_HEADWAY_PART"

if TYPE_CHECKING:
    from headway.core.config import Config
    from headway.protocol.process.reload import Watch


def begin(
    file: Path | None,
    given: Mapping[str, Sequence[str]],
    *,
    serves: bool,
    check: bool,
    reload: bool,
) -> None:
    """Run a node, with HTTP if it ``serves``, until a signal; with ``check`` look only whether one could run."""
    watch = _watch(file) if reload else None
    config = _given() or settings(file, given)
    remark = left_out(file)
    if check:
        _check(config, remark, serves=serves)
        return
    from headway.core.errors import ConfigError, JournalError
    from headway.protocol import node, server

    run = server.run if serves else server.work
    try:
        run(config if watch is None else _brief(config), remark, watch)
    except ConfigError as error:
        fail(error, EXIT_USAGE)
    except JournalError as error:
        fail(error, node.EXIT_JOURNAL)


def _given() -> Config | None:
    """Return the settings that a part of a server with gateways is given by its supervisor."""
    if PART not in os.environ:
        return None
    from headway.protocol.process import parts

    return parts.settings_of(os.environ)


def _watch(file: Path | None) -> Watch:
    """Return a watch on the settings, and later on the task modules."""
    if importlib.util.find_spec("watchfiles") is None:
        fail("--reload: watchfiles is not installed: pip install 'headway[reload]'", EXIT_USAGE)
    from headway.protocol.process.reload import Watch

    return Watch(FILES if file is None else [file])


def _brief(config: Config) -> Config:
    """Return settings with which a deploy does not wait for long."""
    import msgspec

    from headway.protocol.process.reload import DRAIN_S

    return msgspec.structs.replace(config, drain_timeout=min(config.drain_timeout, DRAIN_S))


def _check(config: Config, remark: str | None, *, serves: bool) -> None:
    """Print each fault, or each remark if there is none. End with EXIT_USAGE after a fault."""
    from headway.protocol import check
    from headway.protocol.process import signals
    from headway.protocol.process.deploy import GOOD

    # A task module may replace it.
    stdout = sys.stdout
    wrong = list(check.faults(config, serves=serves))
    for line in wrong or filter(None, [remark, *check.remarks(config, serves=serves)]):
        click.echo(f"headway: {line}", err=True)
    if not wrong:
        click.echo(GOOD, file=stdout)
    # Neither atexit handlers of task modules nor threads that they have started may delay the end
    # without limit.
    signals.leave(lambda: signals.end(EXIT_USAGE if wrong else 0))
