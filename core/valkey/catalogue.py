"""The tasks of all nodes: each node writes a card for each task that it knows.

Nodes may know different tasks. A submission may name any that a live node knows, the lists of tasks
and the schemas have all of them, and ``unknown-task`` is said only after a look at the cards. A
payload is checked by the type of a task where that is known, so by each node that can run it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from contextvars import Context as Variables
from functools import partial
from typing import Any

import msgspec
from headway.core.config import Config
from headway.core.interface import Accepts
from headway.core.job import Submission, Terms
from headway.core.later import known
from headway.core.store.keys import CATALOGUES
from headway.core.store.store import Store
from headway.core.task import Lane, Task
from headway.core.tasks.registry import Registry

# Seconds after which the cards are read again, and between two looks for tasks that are unknown.
OLD_S, PACE_S = 5.0, 0.05


class Card(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task as a node knows it, with the defaults of that node's settings. Times in seconds."""

    name: str
    description: str
    schema: dict[str, Any]
    timeout_s: float
    retries: int
    run_in: str
    deadline_s: float | None = None
    keep_s: float | None = None
    max_concurrent: int | None = None
    # The content that it accepts.
    json: bool = True
    content: bool = True
    body_bytes: int | None = None

    @classmethod
    def of(cls, task: Task, config: Config) -> Card:
        """Return the card of a task of this node."""
        return cls(
            name=task.name,
            description=task.description,
            schema={} if task.payload_type is None else task.payload_type.schema,
            timeout_s=task.timeout_s or config.jobs.timeout,
            retries=config.jobs.retries if task.retries is None else task.retries,
            run_in=(task.lane or Lane(config.jobs.run_in)).value,
            deadline_s=task.deadline_s,
            keep_s=task.keep_s,
            max_concurrent=task.max_concurrent,
            json=task.takes_json,
            content=task.takes_content,
            body_bytes=task.body_bytes,
        )

    def terms(self, submission: Submission) -> Terms:
        """Return the terms of a submission."""
        return Terms(self.timeout_s, self.retries, self.deadline_s, keep_s=self.keep_s).of(submission)

    @property
    def accepts(self) -> Accepts:
        """The content that the task accepts."""
        return Accepts(self.json, self.content, self.body_bytes)


class NodeCard(msgspec.Struct, frozen=True):
    """A node, as the others know it."""

    host: str
    pid: int
    workers: int
    tasks: list[Card]


decode_card = msgspec.json.Decoder(NodeCard).decode


class Catalogue:
    """The cards of the tasks of this node, and of others as they were last read."""

    def __init__(self, config: Config, registry: Registry) -> None:
        # Set by ``use``.
        self._store: Store
        self.own = {task.name: Card.of(task, config) for task in registry.tasks}
        self.workers = self._own_workers = config.workers
        self.all: Mapping[str, Card] = self.own
        self._read_at = -OLD_S
        # The reading that is under way, and the one after it.
        self._reading: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    def use(self, store: Store) -> None:
        """Read from ``store``."""
        self._store = store

    def encoded(self) -> bytes:
        """Return the card of this node, for the others."""
        node = NodeCard(os.uname().nodename, os.getpid(), self._own_workers, [*self.own.values()])
        return msgspec.json.encode(node)

    def get(self, task: str) -> Card | None:
        """Return the card of a task, None if none is known here yet."""
        return self.all.get(task)

    def tick(self) -> None:
        """Read the cards again, if it is time."""
        if time.monotonic() - self._read_at > OLD_S and self._store.is_up:
            self.look().add_done_callback(_seen)

    def look(self) -> asyncio.Future[None]:
        """Read the cards from now on, at most once in PACE_S: a task is unknown here."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._read_next(), context=Variables())
            self._next.add_done_callback(_seen)
        # Others wait for it as well.
        return asyncio.shield(self._next)

    async def _read_next(self) -> None:
        if self._reading is not None:
            await asyncio.wait([self._reading])
        await asyncio.sleep(self._read_at + PACE_S - time.monotonic())
        # Whoever asks from now on waits for the one after this.
        self._reading, self._next = self._next, None
        self._read_at = time.monotonic()
        try:
            await self.read()
        finally:
            self._reading = None

    async def read(self) -> None:
        """Read the cards of all nodes that are alive. Raises HeadwayError."""
        store = self._store
        cards: dict[bytes, bytes]
        cards = await known(store.ask(store.keys[0], lambda: store.home.call("HGETALL", CATALOGUES)))
        nodes: set[bytes] = set()
        for keys in store.keys:
            nodes |= set(await known(store.ask(keys, partial(store.call, keys, "SMEMBERS", keys.nodes))))
        found: dict[str, Card] = {}
        workers = 0
        for name, text in cards.items():
            if name in nodes:
                try:
                    node = decode_card(text)
                except msgspec.MsgspecError:
                    # Of another version of Headway.
                    continue
                workers += node.workers
                found |= {card.name: card for card in node.tasks}
        # Those of this node come last, and count.
        self.all = found | self.own
        self.workers = max(workers, self._own_workers)


def _seen(task: asyncio.Future[None]) -> None:
    # Nobody may wait for it any more.
    if not task.cancelled():
        task.exception()
