"""A process among the nodes of a store: its name, its registration and its leave.

A name is that of one start: ``host:pid:random``. The store fences by it, so a node that was declared
dead comes back under another one. A registered node has, in each partition, its place in ``nodes``,
a heartbeat, and the tasks that it knows with their lanes and limits. Its catalogue, for the lists of
tasks of all nodes, stands beside the partitions.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Mapping, Sequence

from headway.core.link.calls import Calls
from headway.core.store.changes import join_arguments
from headway.core.store.keys import CATALOGUES, Keyspace
from headway.core.store.scripts import JOIN
from headway.core.task import Lane, Task

# Milliseconds that a node is taken for alive after its last heartbeat.
ALIVE_MS = 8_000


class Node:
    """The node of this process. ``places`` are the partitions with their links, ``home`` is that of the catalogues."""

    def __init__(
        self,
        places: Sequence[tuple[Keyspace, Calls]],
        home: Calls,
        catalogue: bytes = b"{}",
        *,
        alive_ms: int = ALIVE_MS,
    ) -> None:
        self.places = places
        self.alive_ms = alive_ms
        self.name = _new_name()
        self._home = home
        # JSON of the tasks, for all nodes.
        self._catalogue = catalogue
        # By the name of a task: lane, None for the server's own, and limit.
        self._knows: dict[str, tuple[Lane | None, int | None]] = {}
        # Called with a new name, before the store knows it.
        self.on_name: Callable[[str], object] = id

    def __repr__(self) -> str:
        return f"<Node {self.name}>"

    def learn(self, tasks: Mapping[str, Task], default: Lane, clerk: bool = False) -> None:
        """Know more tasks, from the next registration on. Those of the ``clerk`` are the server's own."""
        for name, task in tasks.items():
            self._knows[name] = None if clerk else task.lane or default, task.max_concurrent

    def rename(self) -> None:
        """Take another name: what the store has under the old one is no longer ours."""
        old, self.name = self.name, _new_name()
        self.on_name(self.name)
        for keys, link in self.places:
            link.unsubscribe(keys.channel(old))

    async def register(self, marker: bytes) -> None:
        """Enter the node, so that it may claim. Raises StoreError; then it can be called again."""
        name = self.name.encode()
        calls = [self._home.call(b"HSET", CATALOGUES, name, self._catalogue)]
        for keys, link in self.places:
            calls.append(link.subscribe(keys.channel(self.name)))
            calls.append(link.run(JOIN, [keys.counts], *join_arguments(marker, name, self.alive_ms, self._knows)))
        await asyncio.gather(*calls)

    async def leave(self) -> None:
        """Stop listening, and take the tasks back. Raises StoreError."""
        for keys, link in self.places:
            link.unsubscribe(keys.channel(self.name))
        await self._home.call(b"HDEL", CATALOGUES, self.name)


def _new_name() -> str:
    return f"{os.uname().nodename}:{os.getpid()}:{secrets.token_hex(4)}"
