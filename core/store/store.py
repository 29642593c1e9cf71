"""The store as a node reaches it: a link for each partition, the ids, and the layout of the keys.

``hw:meta`` is the truth about the keys: the version of their layout, the secret of the ids and the
number of partitions. The first node writes it. Each partition has the marker of the ids, and each
script that writes compares it. If somebody has emptied the store, the first node that notices
writes another secret: numbers begin again, and ids of before are known as issued elsewhere.

A link that is lost is made again by itself. Calls wait for that up to PATIENCE_S after the loss, so
a restart of the store is seen by nobody. After that the store is *away*, and calls fail at once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn

from headway.core.durability import Durability
from headway.core.errors import ConfigError, EngineAwayError, HeadwayError
from headway.core.ids import SECRET_BYTES, Ids
from headway.core.interface import Later
from headway.core.link.address import Address
from headway.core.link.calls import Calls, Word
from headway.core.link.kept_wire import PATIENCE_S as START_S
from headway.core.link.reply_error import LinkLostError, ReplyError, StoreError, raise_for_caller
from headway.core.link.script import Script
from headway.core.link.topology import Links
from headway.core.link.wire import Prompt
from headway.core.store.keys import META, Keyspace
from headway.core.store.layout import LAYOUT, WRONG_TYPE, Layout, foreign
from headway.core.store.scripts import PROGRESS, STEP, SUBMIT, WRITE_LOG

log = logging.getLogger(__name__)

# Seconds for which calls wait for a link that was lost.
PATIENCE_S = 2.0
# In a moment the node is registered again, and the ids are those of the store.
PASSING = frozenset(("MISPLACED", "DEAD", "OVERTAKEN"))
# These follow one another: a step looks for jobs that were submitted in the same write, and what is
# said of an attempt comes before its end. One that the store does not know comes a way later.
FIRST = (SUBMIT, PROGRESS, WRITE_LOG, STEP)
# Return what is there, after writing it if nothing was.
LAY_OUT = Script(
    "lay_out",
    b"if redis.call('EXISTS', KEYS[1]) == 0 then "
    b"redis.call('HSET', KEYS[1], 'version', ARGV[1], 'secret', ARGV[2], 'partitions', ARGV[3], "
    b"'created', redis.call('TIME')[1]) end return redis.call('HGETALL', KEYS[1])",
)


class Asked(Later[Any]):
    """The reply to a call that may be repeated: it is, if the link was lost meanwhile."""

    __slots__ = ("_call", "_error", "_reply", "_store", "_wake", "is_known", "partition")

    def __init__(self, store: Store, partition: int, call: Callable[[], asyncio.Future[Any]]) -> None:
        self._store = store
        self.partition = partition
        self._call = call
        self._wake: Callable[[], object] = int
        self._reply: Any = None
        self._error: HeadwayError | None = None
        self.is_known = False
        self.send()

    def when_known(self, wake: Callable[[], object]) -> None:
        """Have ``wake`` called when the reply is there."""
        self._wake = wake
        if self.is_known:
            asyncio.get_running_loop().call_soon(wake)

    def value(self) -> Any:
        """Return the reply. Raises EngineAwayError or EngineFullError."""
        if self._error is not None:
            raise self._error
        return self._reply

    def cancel(self) -> None:
        """Do not wake."""
        self._wake = int

    def send(self) -> None:
        """Send the call, or wait for the link."""
        if not self._store.is_up_at(self.partition):
            self._store.park(self)
            return
        call = self._call()
        if isinstance(call, Prompt):
            call.when_told(self._came)
        else:
            call.add_done_callback(self._came)

    def _came(self, call: asyncio.Future[Any]) -> None:
        error = call.exception()
        if isinstance(error, LinkLostError):
            self._store.park(self)
        else:
            self.end(None if error else call.result(), error)

    def end(self, reply: Any, error: BaseException | None) -> None:
        """Take the reply, or the error that came instead."""
        self._reply, self.is_known = reply, True
        if error is not None:
            self._error = for_client(error)
        self._wake()


class Store:
    """The keys of one queue. Made on the loop that uses it.

    ``on_invalid`` gets the keys of reads that have changed, None for all. ``on_up`` is called when a
    link is there again, and ``on_renewed`` when the store was emptied and has other ids now.
    """

    def __init__(
        self,
        address: Address,
        name: str,
        *,
        on_push: Callable[[list[Any]], object],
        on_invalid: Callable[[list[bytes] | None], object],
        on_up: Callable[[], object],
        on_renewed: Callable[[], object],
    ) -> None:
        self.address = address
        self._told_up = on_up
        self._told_invalid = on_invalid
        self._told_renewed = on_renewed
        self._loop = asyncio.get_running_loop()
        self._links = Links(
            address, name, on_push=on_push, on_invalid=self._invalid, on_up=self._up, on_lost=self._was_lost
        )
        # The link to the keys that are of no partition.
        self.home: Calls = self._links.at(META)
        # Whether those that are called back are there.
        self._is_started = False
        # Set by ``start``.
        self.ids: Ids
        self.keys: Sequence[Keyspace] = ()
        self._of: Sequence[Calls] = ()
        # By partition: when its link was lost, of the loop's time. None: it is there.
        self._lost_at: list[float | None] = []
        self._renewing: asyncio.Task[None] | None = None
        # Calls that wait for the link, and the end of their patience.
        self._parked: list[Asked] = []
        self._timer: asyncio.TimerHandle | None = None

    @property
    def partitions(self) -> int:
        """How many there are."""
        return len(self.keys)

    @property
    def durability(self) -> Durability:
        """What an accepted job survives."""
        return self._links.durability

    @property
    def is_up(self) -> bool:
        """Whether all keys can be reached."""
        return self._links.is_up

    @property
    def why(self) -> str:
        """Why some keys cannot be reached. Empty: all can."""
        return "" if self._links.is_up else self._links.why

    @property
    def made(self) -> int:
        """Connections made, ever."""
        return self._links.made

    @property
    def writes(self) -> int:
        """Turns whose calls were sent to a server."""
        return self._links.writes

    def is_up_at(self, partition: int) -> bool:
        """Whether the keys of a partition can be reached."""
        return self._of[partition].is_up

    def patience_s(self, partition: int) -> float:
        """Return for how many seconds a call may wait for a partition. 0.0: it is away."""
        lost_at = self._lost_at[partition]
        if lost_at is None:
            return PATIENCE_S
        return max(PATIENCE_S - (self._loop.time() - lost_at), 0.0)

    async def start(self, patience_s: float = START_S) -> None:
        """Connect, and learn or make the layout. Raises ConfigError if that can never work, or not in time."""
        await self._links.start(patience_s)
        try:
            await self._lay_out()
        except StoreError as error:
            await self._links.close()
            raise ConfigError(f"engine: {self.address}: {error}") from None
        except ConfigError:
            await self._links.close()
            raise
        self._is_started = True
        if self.partitions != self.address.partitions:
            log.info(
                "engine: the store has %d partitions, as at its first start: the URL changes nothing", self.partitions
            )

    async def check(self, patience_s: float) -> None:
        """Connect, look at the layout, and end. Nothing is written. Raises ConfigError if ``start`` would."""
        await self._links.start(patience_s)
        try:
            meta = await self.home.call("HGETALL", META)
            if meta:
                Layout.read(meta, self.address)
        except ReplyError as error:
            fault = self._meaning(error)
            raise fault if isinstance(fault, ConfigError) else ConfigError(f"engine: {self.address}: {error}") from None
        except StoreError as error:
            raise ConfigError(f"engine: {self.address}: {error}") from None
        finally:
            await self._links.close()

    async def close(self) -> None:
        """End all links, after all calls have left."""
        if self._renewing is not None:
            self._renewing.cancel()
        if self._timer is not None:
            self._timer.cancel()
        await self._links.close()

    # Places.

    def keys_of(self, sequence: int) -> Keyspace:
        """Return the keys of the partition that has a job."""
        return self.keys[sequence % len(self.keys)]

    def server_ms(self, partition: int = 0) -> int:
        """Return the time of the store's clock."""
        return self._of[partition].server_ms()

    def learn_time(self, keys: Keyspace, server_ms: int) -> None:
        """Take the time that a partition had a moment ago."""
        self.link(keys).learn_time(server_ms)

    # Calls. Each fails with StoreError.

    def link(self, keys: Keyspace) -> Calls:
        """Return the link to a partition."""
        return self._of[keys.partition]

    def call(self, keys: Keyspace, *words: Word) -> asyncio.Future[Any]:
        """Send a command about keys of a partition."""
        return self.link(keys).call(*words)

    def read(self, keys: Keyspace, key: bytes, *fields: bytes) -> Prompt:
        """Read fields of a hash, and have its change told."""
        return self.link(keys).read(key, *fields)

    def look(self, keys: Keyspace, key: bytes, *words: Word) -> Prompt:
        """Read ``key`` of a partition by a command, and have its change told."""
        return self.link(keys).look(key, *words)

    def run(self, keys: Keyspace, script: Script, *words: Word) -> asyncio.Future[Any]:
        """Run a script in a partition, with the marker of the ids as its first argument."""
        link = self.link(keys)
        if script is SUBMIT:
            # Numbers that another process gave may be unknown to this one.
            words = (*words, link.run_id)
        future = link.run(script, (keys.counts,), self.ids.marker, *words)
        future.add_done_callback(self._check)
        return future

    def ask(self, keys: Keyspace, call: Callable[[], asyncio.Future[Any]]) -> Later[Any]:
        """Return the reply to ``call`` of a partition, which is repeated if the link is lost meanwhile.

        Raises EngineAwayError while the store is away.
        """
        if not self.patience_s(keys.partition):
            raise EngineAwayError
        return Asked(self, keys.partition, call)

    async def answer(self, call: Awaitable[Any]) -> Any:
        """Return the reply to a call that is not repeated. Raises EngineAwayError or EngineFullError."""
        try:
            return await call
        except StoreError as error:
            raise_for_client(error)

    def park(self, asked: Asked) -> None:
        """Send ``asked`` when the link is there again."""
        self._parked.append(asked)
        if self._timer is None:
            self._timer = self._loop.call_later(self.patience_s(asked.partition) + 0.01, self._end_parked)

    def _end_parked(self) -> None:
        self._timer = None
        parked, self._parked = self._parked, []
        for asked in parked:
            if self.patience_s(asked.partition):
                asked.send()
            else:
                asked.end(None, EngineAwayError())

    # The layout.

    async def _lay_out(self) -> None:
        address = self.address
        words = (LAYOUT, secrets.token_bytes(SECRET_BYTES), address.partitions)
        try:
            flat = await self.home.run(LAY_OUT, (META,), *words)
        except ReplyError as error:
            raise self._meaning(error) from None
        meta = dict(zip(flat[::2], flat[1::2], strict=True))
        layout = Layout.read(meta, address)
        self.ids = layout.ids()
        self.keys = tuple(map(Keyspace, range(layout.partitions)))
        self._of = [self._links.of(keys.partition) for keys in self.keys]
        self._lost_at = self._lost_at or [None] * len(self.keys)
        self._load_scripts()
        await asyncio.gather(*map(self._mark, self.keys))

    def _meaning(self, error: ReplyError) -> StoreError | ConfigError:
        """Return the error of a look at ``hw:meta`` that a person reads."""
        return foreign(self.address) if WRONG_TYPE in error.text else error

    def _load_scripts(self) -> None:
        """Have the store know the scripts that follow one another, before any of them is called."""
        for link in self._of:
            for script in FIRST:
                if link.is_up:
                    link.call("SCRIPT", "LOAD", script.text).add_done_callback(asyncio.Future.exception)

    async def _mark(self, keys: Keyspace) -> None:
        """Give a partition the marker of the ids."""
        marker = self.ids.marker
        words = ("SET", keys.marker, marker)
        before = await self.call(keys, *words, "NX", "GET")
        if before not in (None, marker):
            # ``hw:meta`` was lost and these keys were not. Their jobs go on under other ids.
            log.error("engine: the ids of partition %d have changed: ids of before are answered by 421", keys.partition)
            await self.call(keys, *words)

    def renew(self) -> asyncio.Task[None]:
        """Learn or make the layout again. The task raises StoreError or ConfigError."""
        if self._renewing is None or self._renewing.done():
            self._renewing = self._loop.create_task(self._renew())
            self._renewing.add_done_callback(_look_at)
        return self._renewing

    async def _renew(self) -> None:
        before = self.ids.marker
        await self._lay_out()
        if self.ids.marker != before:
            log.error("engine: the store was emptied: all jobs are lost, and ids of before are answered by 421")
            self._told_renewed()

    def _check(self, call: asyncio.Future[Any]) -> None:
        if not call.cancelled() and isinstance(error := call.exception(), ReplyError) and error.code == "MISPLACED":
            self.renew()

    # Called by the link.

    def _invalid(self, keys: list[bytes] | None) -> None:
        if not self._is_started:
            return
        self._told_invalid(keys)
        if keys is None and self._links.is_up:
            # Somebody has emptied the store.
            self.renew()

    def _up(self) -> None:
        self._look_at_links()
        if not self._is_started:
            # The first one.
            return
        self._load_scripts()
        self.renew()
        parked, self._parked = self._parked, []
        for asked in parked:
            asked.send()
        self._told_up()

    def _was_lost(self) -> None:
        self._look_at_links()

    def _look_at_links(self) -> None:
        for partition, link in enumerate(self._of):
            if link.is_up:
                self._lost_at[partition] = None
            elif self._lost_at[partition] is None:
                self._lost_at[partition] = self._loop.time()


def raise_for_client(error: StoreError) -> NoReturn:
    """Raise the error that a client sees."""
    if isinstance(error, ReplyError) and error.code in PASSING:
        raise EngineAwayError from error
    raise_for_caller(error)


def for_client(error: BaseException) -> HeadwayError:
    """Return the error that a client sees. A defect, of ours or of the store, is logged."""
    try:
        if isinstance(error, StoreError):
            raise_for_client(error)
    except HeadwayError as told:
        return told
    except StoreError:
        pass
    if isinstance(error, HeadwayError):
        return error
    log.error("engine: a call of the store failed", exc_info=error)
    return EngineAwayError()


def _look_at(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("engine: the layout of the store cannot be read: %s", error)
