"""The load of the tasks and of the engine: what waits, for how long, and the workers that it asks for."""

import asyncio
import time

from headway.core.hold import Switches
from headway.core.interface import Engine
from headway.core.job import State
from headway.core.load import Load
from headway.core.tasks.registry import Options

from tests.core.contract.client import batch_finished, becomes, cancel, counts, finished, submit, submit_batch
from tests.core.contract.conftest import Start
from tests.core.engines import broken, double, forever, known

NAP_S = 0.02


async def nap(_: object) -> None:
    await asyncio.sleep(NAP_S)


async def of(engine: Engine, task: str) -> Load:
    """Return the load of a task."""
    found = await known(engine.task(task))
    assert found is not None
    return found.load


async def test_nothing_waits_where_no_job_is(start: Start) -> None:
    async with start(double, broken) as engine:
        for task in ("double", "broken"):
            assert await of(engine, task) == Load(0, 0.0, 0.0, 0, 0)
        assert (await counts(engine)).load == Load(0, 0.0, 0.0, 0, 0)
        await finished(engine, await submit(engine, "double", 1))
        await finished(engine, await submit(engine, "broken", "no"))
        assert (await counts(engine)).load == Load(0, 0.0, 0.0, 0, 0)
        assert await known(engine.task("no-such-task")) is None


async def test_a_task_is_told_as_among_all(start: Start) -> None:
    async with start(double, forever, workers=1) as engine:
        await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        tasks = await known(engine.tasks())
        assert {task.name for task in tasks} >= {"double", "forever"}
        for task in tasks:
            one = await known(engine.task(task.name))
            assert one is not None
            assert (one.name, one.running, one.load) == (task.name, task.running, task.load)


async def test_jobs_are_counted_by_task_as_they_move(start: Start) -> None:
    async with start(double, forever, (forever, Options(name="alone", max_concurrent=1)), workers=2) as engine:
        running = [await becomes(engine, await submit(engine, "forever"), State.RUNNING) for _ in range(2)]
        await submit_batch(engine, "double", "double", "alone")
        waits = [await submit(engine, "double", 1, priority=priority) for priority in (9, 0)]
        await submit(engine, "double", 1, delay=60)
        lengths = {task: (await of(engine, task)).queue_length for task in ("double", "forever", "alone")}
        assert lengths == {"double": 4, "forever": 0, "alone": 1}
        busy = {task: (await of(engine, task)).workers_busy for task in ("double", "forever", "alone")}
        assert busy == {"double": 0, "forever": 2, "alone": 0}
        together = (await counts(engine)).load
        assert (together.queue_length, together.workers_busy) == (5, 2)
        for job in waits:
            await cancel(engine, job)
        assert (await of(engine, "double")).queue_length == 2
        for job in running:
            await cancel(engine, job)
        await becomes(engine, await submit(engine, "forever", priority=9), State.RUNNING)
        assert (await counts(engine)).load.workers_busy >= 1


async def test_jobs_of_a_held_task_are_no_load(start: Start) -> None:
    async with start(double, forever, workers=1) as engine:
        await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        await submit(engine, "double", 1)
        await submit(engine, "forever")
        await known(engine.switch("double", Switches(dispatch="hold")))
        await submit(engine, "double", 2)
        held = await of(engine, "double")
        assert (held.queue_length, held.oldest_s, held.workers_wanted) == (0, 0.0, 0)
        together = (await counts(engine)).load
        assert (together.queue_length, together.workers_wanted) == (1, 2)
        await known(engine.switch("double", Switches(dispatch="run")))
        ready = await of(engine, "double")
        assert ready.queue_length == 2
        assert ready.workers_wanted > 0
        assert ready.oldest_s > 0
        assert (await counts(engine)).load.queue_length == 3


async def test_the_oldest_counts_from_when_it_was_ready(start: Start) -> None:
    async with start(double, forever, workers=1) as engine:
        await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        first = await submit(engine, "double", 1, delay=0.2)
        await becomes(engine, first, State.QUEUED)
        ready = time.monotonic()
        second = await submit(engine, "double", 1, priority=9)
        await asyncio.sleep(0.02)
        oldest = (await of(engine, "double")).oldest_s
        # Not from its submission, 0.2 s before.
        assert 0.02 <= oldest <= time.monotonic() - ready + 0.1
        await cancel(engine, first)
        assert 0.0 < (await of(engine, "double")).oldest_s <= time.monotonic() - ready
        assert (await counts(engine)).load.oldest_s > 0
        assert (await of(engine, "forever")).oldest_s == 0.0
        await cancel(engine, second)
        assert (await counts(engine)).load.oldest_s == 0.0


async def test_the_wait_is_estimated_from_the_run_times(start: Start) -> None:
    async with start(nap, workers=2) as engine:
        for _ in range(10):
            await finished(engine, await submit(engine, "nap"))
        assert (await counts(engine)).load.wait_s == 0.0
        batch = await submit_batch(engine, *["nap"] * 60)
        load = await of(engine, "nap")
        last = await submit(engine, "nap")
        waited = await finished(engine, last)
        assert load.queue_length > 40
        assert load.wait_s / 3 < waited.started - waited.submitted < load.wait_s * 3
        assert (await batch_finished(engine, batch)).succeeded == 60


async def test_the_wait_of_a_task_without_known_run_times_is_not_nothing(start: Start) -> None:
    async with start(forever, workers=1) as engine:
        await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        load = await of(engine, "forever")
        assert (load.queue_length, load.wait_s, load.workers_wanted) == (0, 1.0, 1)


async def test_the_wait_grows_while_nothing_moves(start: Start) -> None:
    async with start(nap, forever, workers=1) as engine:
        for _ in range(5):
            await finished(engine, await submit(engine, "nap"))
        await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        await submit(engine, "nap")
        before = (await of(engine, "nap")).wait_s
        await asyncio.sleep(0.5)
        assert (await of(engine, "nap")).wait_s > max(before, 0.4)


async def test_a_line_at_its_limit_makes_no_other_wait(start: Start) -> None:
    async with start(double, (forever, Options(name="alone", max_concurrent=1)), workers=3) as engine:
        await becomes(engine, await submit(engine, "alone"), State.RUNNING)
        for _ in range(5):
            await submit(engine, "alone")
        assert (await of(engine, "double")).wait_s == 0.0
        alone = await of(engine, "alone")
        assert alone.wait_s >= 6.0
        assert (await counts(engine)).load.wait_s == alone.wait_s
        # More workers would not help.
        assert alone.workers_wanted == 1


async def test_so_many_workers_are_wanted_as_begin_all_jobs_within_the_target(start: Start) -> None:
    async with start(nap, forever, workers=2, queue={"target_wait": 0.1}) as engine:
        for _ in range(10):
            await finished(engine, await submit(engine, "nap"))
        held = [await becomes(engine, await submit(engine, "forever"), State.RUNNING) for _ in range(2)]
        for _ in range(50):
            await submit(engine, "nap")
        # 50 of 0.02 s within 0.1 s, and a nap may take longer than it asks for.
        wanted = (await of(engine, "nap")).workers_wanted
        assert 10 <= wanted <= 30
        assert (await of(engine, "forever")).workers_wanted == 2
        assert (await counts(engine)).load.workers_wanted == wanted + 2
        for job in held:
            await cancel(engine, job)


async def test_no_more_workers_are_wanted_than_there_are_jobs(start: Start) -> None:
    async with start(nap, forever, workers=1, queue={"target_wait": 0.001}) as engine:
        for _ in range(3):
            await finished(engine, await submit(engine, "nap"))
        await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        for _ in range(3):
            await submit(engine, "nap")
        assert (await of(engine, "nap")).workers_wanted == 3
        assert (await counts(engine)).load.workers_wanted == 4


async def test_jobs_that_wait_are_counted_again_after_a_restart(start: Start) -> None:
    async with start(double, forever, workers=1) as engine:
        await becomes(engine, await submit(engine, "forever", priority=9), State.RUNNING)
        for number in range(3):
            await submit(engine, "double", number)
    async with start(double, forever, workers=1) as engine:
        if engine.durability == "memory":
            assert (await counts(engine)).load.queue_length == 0
            return
        load = await of(engine, "double")
        assert load.queue_length == 3
        assert load.oldest_s > 0


async def test_waits_and_runs_are_counted_by_task(start: Start) -> None:
    async with start(double, nap, forever, workers=2) as engine:
        for task in ("double", "nap", "nap"):
            await finished(engine, await submit(engine, task, 1))
        await becomes(engine, await submit(engine, "forever"), State.RUNNING)
        tasks = {task.name: task for task in await known(engine.tasks())}
        assert {name: (sum(task.wait.buckets), sum(task.run.buckets)) for name, task in tasks.items()} == {
            "double": (1, 1),
            "nap": (2, 2),
            "forever": (1, 0),
        }
        assert tasks["nap"].run.sum >= 2 * NAP_S
