"""What a node does each second: it looks for what others have changed, and forgets what is over."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence

from headway.core.link.reply_error import StoreError
from headway.core.retention import Retention
from headway.core.store.changes import read_trimmed, trim_arguments
from headway.core.store.scripts import TRIM
from headway.core.store.store import Store

log = logging.getLogger(__name__)

# Seconds between two rounds of the chores, less up to a fifth at random.
CHORES_S = 1.0
# Calls of a round that forget facts that are over, at most, in each partition.
TRIMS = 20


class NodeChores:
    """Does a round of ``chores`` each second, then has the store forget. ``keys`` bounds those of idempotency."""

    def __init__(
        self, store: Store, chores: Sequence[Callable[[], Awaitable[object] | None]], *, kept: Retention, keys: int
    ) -> None:
        self._store = store
        self._chores = chores
        self._kept = kept
        self._keys = keys
        # Partitions to the place at which ``trim`` goes on.
        self._trimmed: dict[int, int] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._rounds())

    def stop(self) -> None:
        """Do no more."""
        if self._task is not None:
            self._task.cancel()

    async def _rounds(self) -> None:
        while True:
            await asyncio.sleep(CHORES_S * random.uniform(0.8, 1.0))  # noqa: S311
            try:
                for chore in self._chores:
                    waiting = chore()
                    if waiting is not None:
                        await waiting
                await self._trim()
            except StoreError as error:
                log.debug("engine: chores have to wait: %s", error)
            except Exception:
                log.exception("engine: a chore failed, it is tried again in %g s", CHORES_S)

    async def _trim(self) -> None:
        """Have the store forget the facts that are over, as far as it does not by itself."""
        store = self._store
        for keys in store.keys:
            for _ in range(TRIMS):
                if not store.is_up_at(keys.partition):
                    break
                words = trim_arguments(
                    b"",
                    kept=self._kept,
                    keys=-(-self._keys // store.partitions),
                    partitions=store.partitions,
                    cursor=self._trimmed.get(keys.partition, -1),
                )[1:]
                trimmed = read_trimmed(await store.run(keys, TRIM, *words))
                self._trimmed[keys.partition] = trimmed.cursor
                if not trimmed.more:
                    break
