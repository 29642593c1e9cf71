"""Tasks with types: payloads that do not fit are refused, and those that fit arrive as the type."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pydantic
import pytest
from headway.core.errors import InvalidPayloadError, UnknownTaskError
from headway.core.interface import Engine
from headway.core.job import Reason, State
from headway.core.key import Key
from headway.core.tasks.registry import Options

from tests.core.contract.client import asked_for, becomes, counts, finished, jobs_in, peek, submit, text_of, until
from tests.core.contract.conftest import Start
from tests.core.engines import broken, double, forever, known


class Photo(msgspec.Struct, forbid_unknown_fields=True):
    """A payload, and a result."""

    size: int
    name: str = "?"


@dataclass
class Album:
    """Another one."""

    photos: list[Photo]


class Model(pydantic.BaseModel):
    """A third one."""

    size: float


async def on_loop(photo: Photo) -> str:
    """Tell the type.

    And no more.
    """
    return repr(photo)


def in_thread(album: Album) -> str:
    """Tell the type, in a thread."""
    return repr(album)


async def of_pydantic(models: list[Model]) -> str:
    return repr(models)


async def members(payload: dict[str, object]) -> int:
    return len(payload)


async def echo(payload: object) -> object:
    return payload


RESULTS: dict[str, object] = {
    "struct": Photo(1),
    "dataclass": Album([Photo(2, "b")]),
    "model": Model(size=1.5),
    "decimal": {"price": Decimal("1.10")},
    "time": [datetime(2026, 11, 29, tzinfo=UTC)],
    "uuid": UUID(int=7),
    "set": {3},
    "large": 1 << 70,
    "nan": {"a": [Photo(1), float("nan")]},
    "in a struct": Album([float("inf")]),  # type: ignore[list-item]
    "in a model": [Model(size=float("nan"))],
}


async def give(name: str) -> object:
    return RESULTS[name]


def give_in_thread(name: str) -> object:
    return RESULTS[name]


TASKS = (on_loop, in_thread, of_pydantic, members, echo, give, give_in_thread)


@pytest.mark.parametrize(
    ("task", "payload", "value"),
    [
        ("on_loop", {"size": 1}, Photo(1)),
        ("in_thread", {"photos": [{"size": 1}, {"size": 2}]}, Album([Photo(1), Photo(2)])),
        # Long enough for a payload without a type to be decoded in slices.
        ("in_thread", {"photos": [{"size": n} for n in range(8000)]}, Album([Photo(n) for n in range(8000)])),
        ("on_loop", {"size": 1, "name": "x" * 100_000}, Photo(1, "x" * 100_000)),
        ("of_pydantic", [{"size": "1.5"}], [Model(size=1.5)]),
    ],
)
async def test_a_task_gets_the_type_that_it_asks_for(engine: Engine, task: str, payload: object, value: object) -> None:
    status = await finished(engine, await submit(engine, task, payload))
    assert await text_of(engine, status) == msgspec.json.encode(repr(value)).decode()


async def test_a_payload_that_does_not_fit_is_refused_before_it_is_queued(engine: Engine) -> None:
    key = Key.of("a misfit", b"content")
    for task, payload, places in (
        ("on_loop", {"size": "x", "colour": 1}, ["payload.size", "payload.colour"]),
        ("in_thread", {"photos": [{"size": 1}, {"size": 2}, {}, {"size": None}]}, ["payload.photos[2].size", "[3]"]),
        ("of_pydantic", [{"size": 1}, {}], ["payload[1].size"]),
        ("members", [1], ["payload"]),
        ("on_loop", None, ["payload"]),
    ):
        with pytest.raises(InvalidPayloadError) as refused:
            await known(engine.submit(asked_for(task, payload), key))
        assert len(refused.value.faults) == len(places)
        assert all(place in str(refused.value) for place in places)
    assert (await counts(engine)).active == 0
    # It has not used up its key.
    await finished(engine, await submit(engine, "on_loop", {"size": 1}, key))


async def test_of_a_batch_with_a_misfit_none_is_queued(engine: Engine) -> None:
    good, bad = asked_for("on_loop", {"size": 1}), asked_for("on_loop", {"size": "x"})
    with pytest.raises(InvalidPayloadError) as refused:
        await known(engine.submit_batch([good, bad, asked_for("echo", "x"), asked_for("members", 1)]))
    assert [place for place, _ in refused.value.faults] == ["[1].payload.size", "[3].payload"]
    with pytest.raises(UnknownTaskError):
        await known(engine.submit_batch([bad, asked_for("nobody")]))
    with pytest.raises(InvalidPayloadError) as refused:
        await known(engine.submit_batch([bad] * 30))
    assert len(refused.value.faults) == 20
    assert (await counts(engine)).active == 0


@pytest.mark.parametrize("payload", [None, 1 << 70, "x", {"a": [1, {}]}, 1.5])
async def test_a_task_without_a_type_takes_anything(engine: Engine, payload: object) -> None:
    status = await finished(engine, await submit(engine, "echo", payload))
    assert await text_of(engine, status) == msgspec.json.encode(payload).decode()


@pytest.mark.parametrize("task", ["give", "give_in_thread"])
@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("struct", '{"size":1,"name":"?"}'),
        ("dataclass", '{"photos":[{"size":2,"name":"b"}]}'),
        ("model", '{"size":1.5}'),
        ("decimal", '{"price":"1.10"}'),
        ("time", '["2026-11-29T00:00:00+00:00"]'),
        ("uuid", '"00000000-0000-0000-0000-000000000007"'),
        ("set", "[3]"),
        ("large", "1180591620717411303424"),
    ],
)
async def test_a_result_is_whatever_has_json(engine: Engine, task: str, name: str, body: str) -> None:
    status = await finished(engine, await submit(engine, task, name))
    assert (status.state, await text_of(engine, status)) == (State.SUCCEEDED, body)


@pytest.mark.parametrize("task", ["give", "give_in_thread"])
@pytest.mark.parametrize(
    ("name", "number"), [("nan", "nan at /a/1"), ("in a struct", "inf at /photos/0"), ("in a model", "nan at /0/size")]
)
async def test_a_number_that_json_does_not_have_fails_the_attempt(
    engine: Engine, task: str, name: str, number: str
) -> None:
    status = await finished(engine, await submit(engine, task, name))
    assert (status.state, status.reason) == (State.FAILED, Reason.ERROR)
    assert f"which is not JSON: {number}" in await text_of(engine, status)


async def test_a_payload_that_waited_and_no_longer_fits_fails_without_a_retry(start: Start) -> None:
    """The next process has a task of the same name that asks for something else."""
    options = Options(name="work", retries=5)
    begun: list[object] = []

    async def now(payload: Any) -> None:
        begun.append(payload)

    async def later(payload: Photo) -> None:
        begun.append(payload)

    async def held(_: object) -> None:
        await asyncio.Event().wait()

    async with start((now, options), (held, Options(name="hold")), workers=1) as engine:
        if engine.durability == "memory":
            return
        await becomes(engine, await submit(engine, "hold"), State.RUNNING)
        misfit = await submit(engine, "work", {"size": "x"})
        fitting = await submit(engine, "work", {"size": 7})
    async with start((later, options), (held, Options(name="hold")), workers=2) as engine:
        status = await finished(engine, misfit)
        assert (status.state, status.reason, status.attempt) == (State.FAILED, Reason.INVALID_PAYLOAD, 1)
        assert await text_of(engine, status) == "payload.size: Expected `int`, got `str`"
        assert (await finished(engine, fitting)).state == State.SUCCEEDED
        assert begun == [Photo(7)]
        # Resubmitted, it is refused as a submission is.
        with pytest.raises(InvalidPayloadError, match=r"payload\.size"):
            await known(engine.retry(status))


async def test_the_tasks_are_listed_with_their_options_and_counts(start: Start) -> None:
    declared = (
        (on_loop, Options(timeout=5, deadline=60, retries=2, max_concurrent=3)),
        (in_thread, Options(name="named")),
        double,
        broken,
        forever,
    )
    async with start(*declared, workers=3, jobs={"timeout": 7, "retries": 1, "backoff": 0.001}) as engine:
        one, two, three, four, five = await known(engine.tasks())
        assert (one.name, one.description, one.run_in) == ("on_loop", "Tell the type.", "loop")
        assert (one.timeout_s, one.deadline_s, one.retries, one.max_concurrent) == (5, 60, 2, 3)
        assert one.schema["$defs"]["Photo"]["additionalProperties"] is False
        assert (two.name, two.description, two.run_in) == ("named", "Tell the type, in a thread.", "thread")
        assert (two.timeout_s, two.deadline_s, two.retries, two.max_concurrent) == (7, None, 1, None)
        assert (three.schema, three.description) == ({"type": "integer"}, "")
        # These say nothing of their payloads.
        assert four.schema == five.schema == {}
        assert five.run_median_s == 0.0
        for task, payload in (("double", 1), ("double", 2), ("broken", 1)):
            await finished(engine, await submit(engine, task, payload))
        await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        waiting = await submit(engine, "forever", delay=60)
        dropped = await submit(engine, "forever", delay=60)
        assert (await known(engine.cancel(await peek(engine, dropped)))).status.state == State.CANCELLED
        tasks = {task.name: task for task in await known(engine.tasks())}
        counts = {
            name: (task.unfinished, task.running, task.succeeded, task.failed, task.cancelled)
            for name, task in tasks.items()
        }
        assert counts == {
            "on_loop": (0, 0, 0, 0, 0),
            "named": (0, 0, 0, 0, 0),
            "double": (0, 0, 2, 0, 0),
            "broken": (0, 0, 0, 1, 0),
            "forever": (2, 1, 0, 0, 1),
        }
        assert tasks["double"].run_median_s > 0
        await known(engine.cancel(await peek(engine, waiting)))


async def test_unfinished_jobs_are_counted_after_a_restart(start: Start) -> None:
    async with start(double, workers=1) as engine:
        durable = engine.durability != "memory"
        waiting = await submit(engine, "double", 1, delay=60)
        # By the next start it is past its deadline, and never begins.
        await submit(engine, "double", 1, delay=60, deadline=0.2)
    await asyncio.sleep(0.25)
    async with start(double, workers=1) as engine:
        if durable:

            async def has_failed() -> bool:
                return len(await jobs_in(engine, State.FAILED)) == 1

            await until(has_failed)
            assert (await peek(engine, waiting)).state == State.SCHEDULED
        (task,) = await known(engine.tasks())
        assert task.unfinished == int(durable)
