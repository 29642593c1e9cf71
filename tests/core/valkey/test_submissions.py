"""Submissions whose call was lost or refused: nothing is done twice, and nobody is told what is not known."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from headway.core.errors import OutcomeUnknownError
from headway.core.link.reply_error import LinkLostError, ReplyError
from headway.core.store.groups import Accepted
from headway.core.store.keys import Keyspace
from headway.core.store.store import Store
from headway.core.valkey.submissions import AGAIN_S, SubmitLine, Submitting

from tests.core.store.partition import BOUNDS, alone

DEAD = ReplyError("DEAD the node was declared dead")


class Calls:
    """A store that is answered by the test."""

    partitions = 1

    def __init__(self) -> None:
        self.is_up = True
        # The name of the node and the number of each call, and the replies to them.
        self.sent: list[tuple[object, object]] = []
        self.replies: list[asyncio.Future[Any]] = []

    def is_up_at(self, _: int) -> bool:
        return self.is_up

    def patience_s(self, _: int) -> float:
        return 2.0

    def learn_time(self, *_: object) -> None:
        """Take no time."""

    def run(self, _: object, script: object, node: object, number: object, *words: object) -> asyncio.Future[Any]:
        self.sent.append((node, number))
        self.replies.append(asyncio.get_running_loop().create_future())
        return self.replies[-1]


class Node:
    """A node that has no room."""

    name = "one"
    free = 0

    def submitted(self, partition: int) -> None:
        """Look for no jobs."""

    def expect(self, partition: int, delay_s: float) -> None:
        """Look for no jobs."""


async def lost(sent: bool) -> tuple[Calls, SubmitLine, Submitting]:
    """Return a call that was lost. Meanwhile its node was declared dead, and has another name."""
    calls, node = Calls(), Node()
    line = SubmitLine(cast(Store, calls), Keyspace(0), node, BOUNDS)
    group = Submitting(alone())
    line.put(group)
    await asyncio.sleep(0)
    assert calls.sent == [(b"one", 1)]
    calls.is_up = False
    calls.replies[0].set_exception(LinkLostError(sent=sent))
    await asyncio.sleep(0)
    node.name, calls.is_up = "two", True
    line.up()
    return calls, line, group


async def test_a_call_that_may_have_been_carried_out_is_sent_again_under_its_name_alone() -> None:
    """Under another one it would be done twice. The store has forgotten the answer to the dead node."""
    calls, _, group = await lost(sent=True)
    assert calls.sent[1:] == [(b"one", 1)]
    calls.replies[1].set_exception(DEAD)
    await asyncio.sleep(2 * AGAIN_S)
    assert len(calls.sent) == 2
    with pytest.raises(OutcomeUnknownError):
        group.value()


async def test_a_call_that_never_left_is_sent_under_the_new_name() -> None:
    calls, _, group = await lost(sent=False)
    assert calls.sent[1:] == [(b"two", 1)]
    # The new name is not known to the store yet.
    calls.replies[1].set_exception(DEAD)
    await asyncio.sleep(2 * AGAIN_S)
    assert calls.sent[2:] == [(b"two", 1)]
    calls.replies[2].set_result([1000, 1, 4, 7])
    await asyncio.sleep(0)
    assert group.value() == Accepted(7)
