"""The engine that the settings ask for.

With a journal it takes a while to open. Until then Recovering stands in for it. One with a shared
store opens at once, and finds its store when it starts.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from headway.core.config import Config
from headway.core.errors import ConfigError
from headway.core.interface import Engine
from headway.core.local.deploy import Carried
from headway.core.local.engine import LocalEngine
from headway.core.retention import Retention
from headway.core.tasks.registry import Registry

if TYPE_CHECKING:
    from headway.core.valkey.engine import ValkeyEngine

log = logging.getLogger(__name__)


def open_engine(
    config: Config, registry: Registry, progress: Callable[[int], object], before: Carried | None = None
) -> Engine:
    """Open the engine that ``config`` describes. With a journal, call it outside of the event loop.

    Raises ConfigError if the URL of a store cannot be used, or as ``open_local`` does.
    """
    if config.engine is not None:
        return _shared(config, registry)
    return open_local(config, registry, progress, before)


def open_local(
    config: Config, registry: Registry, progress: Callable[[int], object], before: Carried | None = None
) -> LocalEngine:
    """Open the engine of a server alone, in memory or with a journal.

    In memory it goes on from ``before``, if there was a previous process. ``progress`` gets, now
    and then, the number of jobs read so far. Raises JournalError if the journal is unusable.
    """
    path = config.journal.file(os.environ)
    if path is None:
        return LocalEngine(config, registry, before=before)
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


def check_store(config: Config) -> None:
    """Reach the store of ``config.engine``, and look at its layout. Raises ConfigError if it cannot be used."""
    engine = _shared(config, Registry())
    asyncio.run(engine.check())


def _shared(config: Config, registry: Registry) -> ValkeyEngine:
    """Return an engine on the store of ``config.engine``. Raises ConfigError if that cannot be used."""
    try:
        # No other engine needs it, nor the libraries that it needs.
        from headway.core.valkey.engine import ValkeyEngine
    except ModuleNotFoundError as error:
        raise ConfigError(f"engine: {error.name} is not installed: pip install 'headway[valkey]'") from None
    return ValkeyEngine(config, registry)
