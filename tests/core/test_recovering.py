"""While its journal is read an engine refuses all, and says why."""

from __future__ import annotations

import inspect
from io import BytesIO
from typing import Any

import pytest
from headway.core.audit import Act
from headway.core.config import Config
from headway.core.errors import RecoveringError
from headway.core.events import EventFilter
from headway.core.hold import Switches
from headway.core.interface import Engine
from headway.core.job import Revision, State, Submission
from headway.core.job_filter import JobFilter
from headway.core.key import Key
from headway.core.order import Action
from headway.core.recovering import RETRY_S, Recovering
from headway.core.status import BatchStatus, bare

STATUS = bare(State.RUNNING, 1, b"1")
BATCH = BatchStatus(b"1", 1, 1, 1, 0, 0, 0, 0, 0)
KEY = Key.of("key", b"content")
# How each is called.
CALLS: dict[str, tuple[Any, ...]] = {
    "peek": (b"1",),
    "peek_key": ("key",),
    "peek_batch": (b"1",),
    "find": (JobFilter(), 0, 10),
    "list_batch": (BATCH,),
    "tasks": (),
    "task": ("double",),
    "switch": ("double", Switches(dispatch="hold")),
    "revise": (STATUS, Revision(priority=1)),
    "result": (STATUS,),
    "attempts": (STATUS,),
    "log": (STATUS,),
    "wait_log": (STATUS, 0, 1.0),
    "wait": (STATUS, 1.0),
    "watch": (EventFilter(),),
    "wait_batch": (BATCH, 1.0),
    "check_room": (),
    "replay": (KEY,),
    "replay_batch": (KEY,),
    "submit": (Submission(task="double"), KEY),
    "submit_batch": ([Submission(task="double")], KEY),
    "retry": (STATUS, KEY),
    "cancel": (STATUS,),
    "order": (Action.CANCEL, JobFilter(task="double"), KEY),
    "count_meant": (Action.CANCEL, JobFilter(task="double")),
    "cancel_batch": (BATCH,),
    "counts": (),
    "errors": ([STATUS],),
    "history": (60,),
    "note": (Act("reloadTokens"),),
    "audit": (0, 1),
    "payload": (STATUS,),
    "recent_batches": (),
    "accepts": ("task",),
    "start": (print,),
    "drain": (1.0,),
    "hand_over": (BytesIO(),),
    "resume": (),
    "stop": (),
    "close": (),
}
# And those that are answered.
ANSWERED = {"durability", "polled", "not_ready", "retry_after_s", "waiting"}


def members(kind: type) -> set[str]:
    """Return the names that a class has and that are meant for others."""
    return {name for name in (*vars(kind), *kind.__annotations__) if not name.startswith("_")}


def test_every_member_of_an_engine_is_tested_here() -> None:
    assert members(Engine) == CALLS.keys() | ANSWERED
    assert members(Engine) <= members(Recovering) | {"polled", "durability"}


@pytest.mark.parametrize("name", CALLS)
async def test_each_call_is_refused_with_when_to_come_again(name: str) -> None:
    recovering = Recovering(Config())

    async def call() -> None:
        found = getattr(recovering, name)(*CALLS[name])
        if inspect.isawaitable(found):
            await found

    with pytest.raises(RecoveringError) as refused:
        await call()
    assert RETRY_S <= refused.value.retry_after_s < RETRY_S + 1
    # It is called as any engine is.
    own, of_all = (inspect.signature(getattr(kind, name)) for kind in (Recovering, Engine))
    assert own.parameters == of_all.parameters


def test_it_says_how_far_it_is() -> None:
    recovering: Engine = Recovering(Config())
    assert (recovering.durability, recovering.polled) == ("disk", None)
    assert recovering.not_ready == "recovering: 0 jobs read"
    assert isinstance(recovering, Recovering)
    recovering.read += 1200
    assert recovering.not_ready == "recovering: 1200 jobs read"
    assert recovering.retry_after_s(7.0) >= 7.0
