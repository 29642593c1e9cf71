"""The engine that the settings ask for.

With a journal it takes a while to open. Until then Recovering stands in for it. One with a shared
store opens at once, and finds its store when it starts. This is the only module that knows which
engines there are, so it has the checks before a start, too.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from headway.core.config import Config
from headway.core.errors import ConfigError
from headway.core.handover import Handover
from headway.core.interface import Engine
from headway.core.local.engine import LocalEngine, board_for
from headway.core.processes.confinement import Confinement
from headway.core.processes.pool import pool_for
from headway.core.retention import Retention
from headway.core.tasks.registry import Registry

if TYPE_CHECKING:
    from headway.core.gateway.engine import GatewayEngine
    from headway.core.gateway.links import GatewayLinks
    from headway.core.local.deploy import Carried
    from headway.core.valkey.engine import ValkeyEngine

log = logging.getLogger(__name__)


def open_engine(
    config: Config, registry: Registry, progress: Callable[[int], object], before: Handover | None = None
) -> Engine:
    """Open the engine that ``config`` describes. With a journal, call it outside of the event loop.

    Raises ConfigError if the URL of a store cannot be used, or as ``open_local`` does.
    """
    if config.engine is not None:
        return _shared(config, registry)
    return open_local(config, registry, progress, before)


def open_local(
    config: Config, registry: Registry, progress: Callable[[int], object], before: Handover | None = None
) -> LocalEngine:
    """Open the engine of a server alone, in memory or with a journal.

    In memory it goes on from ``before``, if there was a previous process. ``progress`` gets, now
    and then, the number of jobs read so far. Raises JournalError if the journal is unusable.
    """
    path = config.journal.file(os.environ)
    if path is None:
        return LocalEngine(config, registry, before=_carried(before))
    from headway.core.journal.journal import Journal

    # Absolute, so that a task may change the directory.
    journal = Journal(path.absolute(), config.journal.sync, Retention.of(config.retention))
    if journal.found.lost:
        log.error(
            "%s: the last %d acknowledged commits are missing, which journal.sync: normal allows after a loss of power",
            journal.path,
            journal.found.lost,
        )
    try:
        engine = LocalEngine(config, registry, journal)
        engine.restore(progress)
    except BaseException:
        journal.abandon()
        raise
    return engine


def open_gateway(config: Config, path: str, program: str) -> GatewayEngine:
    """Open the engine behind the Unix socket ``path``. ``program`` is the fingerprint of our program."""
    # No other server needs it.
    from headway.core.gateway.engine import GatewayEngine

    return GatewayEngine(config, path, program)


def open_links(engine: Engine, program: str) -> GatewayLinks:
    """Return the engine's end for gateways. ``program`` is the fingerprint of our program.

    Raises ConfigError if no rows of ``engine`` are in this process.
    """
    from headway.core.gateway.links import GatewayLinks
    from headway.core.gateway.showing import Showing

    if not isinstance(engine, LocalEngine):
        raise ConfigError("server.gateways: needs an engine in memory or with a journal: unset it, or engine")
    return GatewayLinks(engine, Showing(engine, program))


def check_memory(config: Config) -> None:
    """Ask for the memory of all statuses that an engine in this process keeps. Raises ConfigError if there is none."""
    if config.engine is None:
        board_for(config)


def check_journal(path: Path) -> None:
    """Look at the version of a journal that exists. Raises JournalError if this program cannot read it."""
    # A server in memory does not need it.
    from headway.core.journal import schema

    schema.check_header(path)


def check_confinement(config: Config) -> None:
    """Raise ConfigError if worker processes cannot be confined as the settings ask."""
    Confinement.of(config)


def check_worker(config: Config, registry: Registry) -> None:
    """Start a worker process as those of an engine, if a task needs one: it has to import the tasks.

    Raises ConfigError if it cannot start, or as ``check_confinement`` does.
    """
    pool = pool_for(config, registry)
    if pool is None:
        return
    # A start does not need it.
    from headway.core.processes import trial

    fault = asyncio.run(trial.fault(pool.modules, pool.confinement))
    if fault is not None:
        raise ConfigError(f"a worker process cannot start: {fault}")


def gateway_bytes() -> int:
    """Return the most bytes of calls that a gateway keeps while its engine starts again."""
    # No other server needs it.
    from headway.core.gateway.calls import KEPT_BYTES

    return KEPT_BYTES


def check_store(config: Config) -> None:
    """Reach the store of ``config.engine``, and look at its layout. Raises ConfigError if it cannot be used."""
    engine = _shared(config, Registry())
    asyncio.run(engine.check())


def _carried(before: Handover | None) -> Carried | None:
    """Return what was left by the process before."""
    if before is None:
        return None
    # A first start does not need it.
    from headway.core.local import deploy, salvage

    if before.is_crash:
        return salvage.salvaged(before.file.read(), before.rows_fd)
    return deploy.Carried(before.file, before.rows_fd)


def _shared(config: Config, registry: Registry) -> ValkeyEngine:
    """Return an engine on the store of ``config.engine``. Raises ConfigError if that cannot be used."""
    try:
        # No other engine needs it, nor the libraries that it needs.
        from headway.core.valkey.engine import ValkeyEngine
    except ModuleNotFoundError as error:
        raise ConfigError(f"engine: {error.name} is not installed: pip install 'headway[valkey]'") from None
    return ValkeyEngine(config, registry)
