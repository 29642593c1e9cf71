"""Whether this node is one of the store's: registered at the start, and again when it was declared dead.

A store that was emptied knows no node. It gets new ids first. In either case nothing that the node had
in its hands counts any more, and it begins anew under another name.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from headway.core.errors import HeadwayError
from headway.core.ids import Ids
from headway.core.link.reply_error import ReplyError, StoreError
from headway.core.nodes.exchange import MISPLACED, Exchange
from headway.core.nodes.fences import FENCED
from headway.core.nodes.node import Node

log = logging.getLogger(__name__)

# Seconds before the node is registered again, at first and at most.
JOIN_S, JOIN_MOST_S = 0.1, 2.0
LOST = "the store has lost the job"


async def _nothing() -> None:
    """Do nothing."""


class Holdings(Protocol):
    """The side of ``Hands``."""

    # Other ones after the store was emptied.
    ids: Ids
    exchanges: list[Exchange]

    def __len__(self) -> int:
        """How many jobs there are."""

    def open(self) -> None:
        """Have steps leave from now on: the node is registered."""

    def shut(self) -> None:
        """Have no steps leave: the node is not registered."""

    def give_up(self, exchanges: Sequence[Exchange], why: str) -> None:
        """Interrupt the attempts of these partitions, and drop their ends: none of them counts."""

    async def hand_in(self, but: Exchange) -> None:
        """Interrupt all attempts that are left and put their jobs back: other partitions still take that."""


class Membership:
    """Registers ``node`` with the store, for the jobs in its ``hands``."""

    def __init__(self, node: Node, hands: Holdings) -> None:
        self._node = node
        self._hands = hands
        # The ids of the store with which the node is registered.
        self.ids = hands.ids
        self._joining: asyncio.Task[None] | None = None
        # Makes the keys of a store that was emptied, and sets the ids of the hands.
        self.on_misplaced: Callable[[], Awaitable[None]] = _nothing

    async def begin(self) -> None:
        """Register the node. Raises StoreError."""
        ids = self._hands.ids
        await self._node.register(ids.marker)
        self.ids = ids

    def stop(self) -> None:
        """Register it no more."""
        if self._joining is not None:
            self._joining.cancel()

    def refused(self, exchange: Exchange, code: str) -> None:
        """Begin anew under another name: this one was declared dead, or the store was emptied."""
        if self._joining is None:
            self._joining = asyncio.get_running_loop().create_task(self._join_again(exchange, code))

    async def _join_again(self, exchange: Exchange, code: str) -> None:
        hands, before, interrupted = self._hands, self._node.name, len(self._hands)
        # A store that was emptied knows no node. Another call may have heard first, and have renewed the ids.
        is_emptied = code == MISPLACED or hands.ids.marker != self.ids.marker
        if is_emptied:
            log.error("engine: the store has lost its jobs: %d attempts are interrupted", interrupted)
        else:
            log.warning("engine: this node was declared dead as %s: %d attempts are interrupted", before, interrupted)
        hands.give_up(hands.exchanges if is_emptied else [exchange], LOST if is_emptied else FENCED)
        if len(hands) or not all(one.is_settled for one in hands.exchanges if one is not exchange):
            await hands.hand_in(exchange)
        hands.shut()
        self._node.rename()
        hands.give_up(hands.exchanges, LOST if is_emptied else FENCED)
        pause = 0.0
        while not await self._joined(code == MISPLACED):
            pause = min(2 * pause + JOIN_S, JOIN_MOST_S)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
        self._joining = None
        hands.open()

    async def _joined(self, is_misplaced: bool) -> bool:
        """Register the node, and return whether that worked."""
        try:
            if is_misplaced:
                await self.on_misplaced()
            await self.begin()
        except ReplyError as error:
            return error.code == MISPLACED and not is_misplaced and await self._joined(True)
        except (StoreError, HeadwayError):
            return False
        except Exception:
            log.exception("the node could not be registered, it is tried again")
            return False
        return True
