"""A process among the nodes of a store: its name, its registration and its leave.

A name is that of one start: ``host:pid:random``. The store fences by it, so a node that was declared
dead comes back under another one. A registered node has, in each partition, its place in ``nodes``,
a heartbeat, and the tasks that it knows with their lanes and limits. Its catalogue, for the lists of
tasks of all nodes, stands beside the partitions.

The heartbeat is written before the place: a place without a heartbeat is that of a dead node.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Mapping, Sequence

from headway.core.task import Lane, Task
from headway.core.valkey.keys import CATALOGUES, Keys
from headway.core.valkey.link import Link
from headway.core.valkey.steps import CLERK, LANES

# Milliseconds that a node is taken for alive after its last heartbeat.
ALIVE_MS = 10_000


class Node:
    """The node of this process. ``places`` are the partitions with their links, ``home`` is the link of the catalogues."""

    def __init__(
        self,
        places: Sequence[tuple[Keys, Link]],
        home: Link,
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
        # By the name of a task: lane and limit, as the store keeps them.
        self._knows: dict[str, str] = {}
        # Called with a new name, before the store knows it.
        self.on_name: Callable[[str], object] = id

    def __repr__(self) -> str:
        return f"<Node {self.name}>"

    def learn(self, tasks: Mapping[str, Task], default: Lane, clerk: bool = False) -> None:
        """Know more tasks, from the next registration on. Those of the ``clerk`` are the server's own."""
        for name, task in tasks.items():
            lane = CLERK if clerk else LANES[task.lane or default]
            self._knows[name] = f"{lane}:{task.max_concurrent or 0}"

    def rename(self) -> None:
        """Take another name: what the store has under the old one is no longer ours."""
        old, self.name = self.name, _new_name()
        self.on_name(self.name)
        for keys, link in self.places:
            link.unsubscribe(keys.channel(old))

    async def register(self) -> None:
        """Enter the node, so that it may claim. Raises StoreError; then it can be called again."""
        name = self.name.encode()
        calls = []
        for keys, link in self.places:
            calls.append(link.subscribe(keys.channel(self.name)))
            calls.append(link.call(b"SET", keys.heartbeat(self.name), 1, b"PX", self.alive_ms))
            if self._knows:
                words = [word for known in self._knows.items() for word in known]
                calls.append(link.call(b"HSET", keys.knows(self.name), *words))
            calls.append(link.call(b"SADD", keys.nodes, name))
        calls.append(self._home.call(b"HSET", CATALOGUES, name, self._catalogue))
        await asyncio.gather(*calls)

    async def leave(self) -> None:
        """Take the node out. Its jobs were put back, or another node takes them up. Raises StoreError."""
        name = self.name.encode()
        calls = [self._home.call(b"HDEL", CATALOGUES, name)]
        for keys, link in self.places:
            link.unsubscribe(keys.channel(self.name))
            calls.append(link.call(b"SREM", keys.idle, name))
            calls.append(link.call(b"DEL", keys.heartbeat(self.name)))
        await asyncio.gather(*calls)


def _new_name() -> str:
    return f"{os.uname().nodename}:{os.getpid()}:{secrets.token_hex(4)}"
