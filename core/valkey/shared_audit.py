"""The audit log of all nodes: the sorted set ``audit`` of the first partition, by number.

A change and its entry are two calls, since they may lie in different partitions. The entry leaves
once the store has made the change, and the client is answered after that. It leaves also if that
client has gone. If the store is lost in between, the change is made: its client is told so, and the
node sends the entry when the store is back. The entries of a turn of the loop leave in one call.

So an acknowledged change has its entry, unless the node dies while the store is away. A change whose
reply is lost has none: the call is sent again, and then finds nothing to change.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from headway.core.audit import Act, AuditEntry, decode, encode
from headway.core.errors import HeadwayError
from headway.core.interface import Later, Soon
from headway.core.later import Read, Then, known
from headway.core.store.changes import note_arguments
from headway.core.store.scripts import NOTE
from headway.core.store.store import PATIENCE_S, Store

Value = TypeVar("Value")

log = logging.getLogger(__name__)

# Random bytes before each entry: two that are alike otherwise are two members of the set.
NONCE_BYTES = 8
# Entries of one call, at most.
SENT_MOST = 200


class SharedAudit:
    """Writes this node's entries, and reads all. ``kept`` is how many there are, 0 for none."""

    def __init__(self, store: Store, kept: int) -> None:
        self._store = store
        self._keys = store.keys[0]
        self._kept = kept
        # Entries that the store does not have, oldest first.
        self._unsent: list[bytes] = []
        self._round: asyncio.Task[None] | None = None
        # Changes whose entries are about to be made.
        self._under_way: set[asyncio.Task[Any]] = set()

    def after(self, changed: Soon[Value], act: Act | None, made: Callable[[Value, Act], Act | None]) -> Soon[Value]:
        """Return ``changed`` once its entry is kept: the act that ``made`` makes of it, None if nothing was changed."""
        if act is None or not self._kept or not isinstance(changed, Later):
            # What is known without the store changes nothing there.
            return changed
        woken = asyncio.Event()
        changed.when_known(woken.set)
        return Read(asyncio.shield(self._begin(self._after(changed, woken, act, made))))

    def note(self, act: Act) -> None:
        """Keep an act of the server itself."""
        self._begin(self.keep(act))

    def _begin(self, doing: Coroutine[Any, Any, Value]) -> asyncio.Task[Value]:
        """Have something done, also if nobody waits for it."""
        task = asyncio.get_running_loop().create_task(doing)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def _after(
        self, changed: Later[Value], woken: asyncio.Event, act: Act, made: Callable[[Value, Act], Act | None]
    ) -> Value:
        await woken.wait()
        value = changed.value()
        entry = made(value, act)
        if entry is not None:
            await self.keep(entry)
        return value

    async def keep(self, act: Act) -> None:
        """Keep an act of which it is known that it was carried out."""
        if not self._kept:
            return
        self._unsent.append(os.urandom(NONCE_BYTES) + encode(self._store.server_ms() / 1000, act))
        del self._unsent[: -self._kept]
        await self.send()

    def send(self) -> asyncio.Future[None]:
        """Send what is unsent, in the next turn of the loop."""
        if self._round is None:
            self._round = asyncio.get_running_loop().create_task(self._send())
        return asyncio.shield(self._round)

    async def _send(self) -> None:
        self._round = None
        store, keys = self._store, self._keys
        if not store.patience_s(keys.partition):
            # The store is away. ``up`` sends them.
            return
        entries, self._unsent = self._unsent, []
        while entries:
            words = note_arguments(b"", entries[:SENT_MOST], kept=self._kept)[1:]
            try:
                await known(store.ask(keys, lambda words=words: store.run(keys, NOTE, *words)))  # type: ignore[misc]
            except HeadwayError as error:
                log.warning("engine: the audit log gets %d entries once the store is back: %s", len(entries), error)
                self._unsent[:0] = entries
                return
            del entries[:SENT_MOST]

    async def stop(self) -> None:
        """Wait for the entries that are under way."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=PATIENCE_S)
        await self.send()

    def read(self, before: int, limit: int) -> Later[Sequence[AuditEntry]]:
        """Return entries, as Engine says."""
        store, keys = self._store, self._keys
        start = f"({before}" if before else "+inf"
        words = ("ZRANGE", keys.audit, start, "-inf", "BYSCORE", "REV", "LIMIT", 0, limit, "WITHSCORES")
        return Then(
            store.ask(keys, lambda: store.call(keys, *words)),
            lambda found: [decode(int(number), told[NONCE_BYTES:]) for told, number in found],
        )
