"""The switches of tasks for all nodes, in the hash ``hold`` of each partition.

Scripts go by it: one that is held or closed is so for every node from that moment on. Whether the
time of a hold has come is told by the store's clock. A node keeps a copy for what it tells clients.
A push says that it has changed, and LOOK_S later at the latest it is read again.

A change is made in the first partition, from the value that the caller knew: of two changes at once
each is made. Then the other partitions get it, under its version: none takes an older one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from math import inf

import msgspec
from headway.core.hold import NO_HOLD, Switches, TaskHold
from headway.core.link.reply_error import StoreError
from headway.core.store.changes import encode_hold, read_switched, switch_arguments
from headway.core.store.scripts import SWITCH
from headway.core.store.store import Store

log = logging.getLogger(__name__)

# Seconds between two looks without a push.
LOOK_S = 1.0


class KeptHold(TaskHold, frozen=True, omit_defaults=True):
    """The switches as the store has them."""

    # How many changes there were before.
    version: int = 0

    def bare(self) -> TaskHold:
        """Return them as clients see them."""
        return TaskHold(self.dispatch, self.intake, self.until, self.reason)


_decode = msgspec.json.Decoder(KeptHold).decode


class SharedHolds:
    """The switches as this node knows them. ``on_change`` gets the name of a task whose switches have changed."""

    def __init__(self, store: Store, on_change: Callable[[str], object]) -> None:
        self._store = store
        self._on_change = on_change
        # As the first partition has them.
        self._texts: dict[str, bytes] = {}
        self._kept: dict[str, TaskHold] = {}
        # Those that were in effect when this was looked at last.
        self._shown: dict[str, TaskHold] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def of(self, task: str) -> TaskHold:
        """Return the present switches of a task."""
        found = self._kept.get(task)
        return NO_HOLD if found is None else found.at(self._now())

    @property
    def held(self) -> Mapping[str, TaskHold]:
        """The tasks that are held, as of the last change."""
        return {task: hold for task, hold in self._shown.items() if hold.dispatch == "hold"}

    def lasting(self, until: float) -> Collection[str]:
        """Return the tasks that are held at a time of the store's clock, if nobody returns their switches."""
        return [task for task, hold in self.held.items() if hold.at(until) != NO_HOLD]

    def _now(self) -> float:
        return self._store.server_ms() / 1000

    # Knowing them.

    async def start(self) -> None:
        """Read the switches, and follow them from now on. Raises StoreError."""
        await self._read()
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def stop(self) -> None:
        """Follow them no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def look(self) -> None:
        """Read them soon: they may have changed."""
        self._changed.set()

    async def _follow(self) -> None:
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            try:
                await self._read()
            except StoreError:
                # What is known holds until the store is there.
                continue

    async def _read(self) -> None:
        keys, before = self._store.keys[0], self._texts
        found: dict[bytes, bytes] = await self._store.look(keys, keys.hold, b"HGETALL", keys.hold)
        texts = {name.decode(): text for name, text in found.items()}
        self._take(texts)
        # The node that made a change may have died before all partitions had it.
        await self._spread({task: text for task, text in texts.items() if before.get(task) != text})

    def _take(self, texts: dict[str, bytes]) -> None:
        if texts != self._texts:
            self._texts = texts
            self._kept = {task: _decode(text).bare() for task, text in texts.items()}
        self._show()

    def _show(self) -> None:
        """Tell of the switches that have changed, also by the time."""
        now = self._now()
        shown = {task: hold for task, hold in self._kept.items() if hold.at(now) != NO_HOLD}
        before, self._shown = self._shown, shown
        for task in before.keys() | shown.keys():
            hold = shown.get(task, NO_HOLD)
            if before.get(task, NO_HOLD) == hold:
                continue
            if hold == NO_HOLD and task in self._kept and self._kept[task].at(0.0) != NO_HOLD:
                log.info("task %s: its hold has ended at the time of its until", task)
            else:
                log.info("task %s: %s", task, hold)
            self._on_change(task)
        self._set_timer(min((inf if hold.until is None else hold.until for hold in shown.values()), default=inf) - now)

    def _set_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # The clocks may drift, and one look more costs nothing.
        if seconds < LOOK_S * 10:
            self._timer = asyncio.get_running_loop().call_later(max(seconds, 0.001), self._show)

    # Changing them.

    def check(self, task: str, switches: Switches) -> None:
        """Raise InvalidError if a change is not allowed, as far as is known here."""
        switches.over(self.of(task), self._now())

    async def switch(self, task: str, switches: Switches) -> TaskHold:
        """Change the switches of a task, and return them. Raises InvalidError or StoreError."""
        store, first = self._store, self._store.keys[0]
        before = self._texts.get(task, b"")
        while True:
            kept = _decode(before) if before else KeptHold()
            after = switches.over(kept.bare().at(self._now()), self._now())
            text = self._text(after, kept.version + 1)
            words = switch_arguments(b"", task, before=before, after=text)
            is_done, before = read_switched(await store.run(first, SWITCH, *words[1:]))
            if is_done:
                break
        # Before anything else is read.
        self._take({name: one for name, one in (self._texts | {task: text}).items() if one})
        await self._spread({task: text})
        return after

    async def _spread(self, texts: Mapping[str, bytes]) -> None:
        """Have the other partitions know the switches, unless they know later ones."""
        store, calls = self._store, []
        for task, text in texts.items():
            words = switch_arguments(b"", task, before=None, after=text, version=_decode(text).version if text else 0)
            calls += [store.run(keys, SWITCH, *words[1:]) for keys in store.keys[1:]]
        await asyncio.gather(*calls)

    def _text(self, hold: TaskHold, version: int) -> bytes:
        if len(self._store.keys) == 1:
            return b"" if hold == NO_HOLD else encode_hold(hold)
        # Also of a task that nothing is held of: others may still be about to write an older one.
        return encode_hold(KeptHold(hold.dispatch, hold.intake, hold.until, hold.reason, version=version))
