"""Events: each change that clients can see, once, in order, and for those who want it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import pytest
from headway.core.errors import StreamsFullError, UnknownTaskError
from headway.core.events import Event, EventFilter, Portion
from headway.core.interface import Engine, Feed, Later
from headway.core.job import TERMINAL, Reason, State
from headway.core.status import Status

from tests.core.contract.client import (
    asked_for,
    batch_finished,
    becomes,
    cancel,
    counts,
    finished,
    peek,
    submit,
    submit_batch,
    until,
)
from tests.core.contract.conftest import Start
from tests.core.engines import PATIENCE_S, broken, double, forever, is_gateway, known

EVERYTHING = EventFilter()
WHOLE_LIFE = [State.QUEUED, State.RUNNING, State.SUCCEEDED]


class Reader:
    """Takes the events of a feed as they come."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.events: list[Event] = []
        self.missed = 0
        # Called after each event.
        self.looks: Callable[[Event], object] = id
        self.feed.when_more(self._take)

    def _take(self) -> None:
        taken = self.feed.take()
        self.missed += taken.missed
        for event in taken.events:
            self.events.append(event)
            self.looks(event)

    @property
    def states(self) -> list[int]:
        """The states that were told."""
        return [event.state for event in self.events]

    async def has(self, count: int) -> list[Event]:
        """Wait for ``count`` events, see that no other follows, and end."""
        await until_true(lambda: len(self.events) >= count)
        await asyncio.sleep(0.1)
        self.feed.close()
        assert len(self.events) == count, self.states
        assert self.missed == 0
        return self.events


async def reads(engine: Engine, wanted: EventFilter = EVERYTHING, after: int | None = None) -> Reader:
    """Return a reader of the events of ``engine``."""
    return Reader(await known(engine.watch(wanted, after)))


async def catch_up(engine: Engine) -> None:
    """Wait until all events of before can be taken: those of a feed that begins now come after them."""
    (await known(engine.watch(EVERYTHING))).close()


async def test_each_change_is_told_once_and_in_order(engine: Engine) -> None:
    reader = await reads(engine)
    job = await finished(engine, await submit(engine, "double", 1))
    first, second, last = await reader.has(3)
    assert reader.states == WHOLE_LIFE
    assert {event.job for event in reader.events} == {job.id}
    assert {event.task for event in reader.events} == {"double"}
    assert [event.attempt for event in reader.events] == [0, 1, 1]
    assert [event.number for event in reader.events] == [first.number, first.number + 1, first.number + 2]
    assert (first.time, second.time, last.time) == pytest.approx((job.submitted, job.started, job.ended), abs=0.01)
    assert reader.feed.place == last.number


async def test_a_failure_has_its_reason_and_each_attempt_its_number(engine: Engine) -> None:
    reader = await reads(engine)
    await finished(engine, await submit(engine, "broken", 1, retries=1))
    await reader.has(6)
    queued, running, retrying = State.QUEUED, State.RUNNING, State.RETRYING
    assert reader.states == [queued, running, retrying, queued, running, State.FAILED]
    assert [event.attempt for event in reader.events] == [0, 1, 1, 1, 2, 2]
    assert [event.reason for event in reader.events] == [*[Reason.NONE] * 5, Reason.ERROR]


async def test_a_job_that_is_cancelled_says_so_and_nothing_after(engine: Engine) -> None:
    reader = await reads(engine)
    waiting = await submit(engine, "double", 1, delay=60)
    running = await becomes(engine, await submit(engine, "forever"), State.RUNNING)
    await cancel(engine, waiting)
    await cancel(engine, running)
    await reader.has(5)
    of = {job.id: [event.state for event in reader.events if event.job == job.id] for job in (waiting, running)}
    assert of[waiting.id] == [State.SCHEDULED, State.CANCELLED]
    assert of[running.id] == [State.QUEUED, State.RUNNING, State.CANCELLED]


async def test_a_delay_that_is_over_and_each_job_of_a_batch_are_told(engine: Engine) -> None:
    reader = await reads(engine)
    await finished(engine, await submit(engine, "double", 1, delay=0.01))
    await submit_batch(engine, "double", "double")
    await reader.has(4 + 2 * 3)
    assert reader.states[:4] == [State.SCHEDULED, *WHOLE_LIFE]
    assert sorted(reader.states[4:]) == sorted(2 * WHOLE_LIFE)


async def test_a_reader_gets_what_fits_all_that_it_wants(engine: Engine) -> None:
    wanted = {
        "state": EventFilter(states=frozenset({State.FAILED, State.SUCCEEDED})),
        "task": EventFilter(task="double"),
        "tag": EventFilter(tag="a"),
        "tag and state": EventFilter(tag="b", states=frozenset({State.RUNNING})),
        "task and tag": EventFilter(task="broken", tag="b"),
        "nothing": EventFilter(tag="no such tag"),
    }
    readers = {name: await reads(engine, one) for name, one in wanted.items()}
    first = await finished(engine, await submit(engine, "double", 1, tags=("a", "b")))
    second = await finished(engine, await submit(engine, "broken", 1, tags=("b",)))
    last = await finished(engine, await submit(engine, "double", 1))
    counts = {"state": 3, "task": 6, "tag": 3, "tag and state": 2, "task and tag": 3, "nothing": 0}
    for name, reader in readers.items():
        await reader.has(counts[name])
    assert [event.job for event in readers["state"].events] == [first.id, second.id, last.id]
    assert {event.job for event in readers["task"].events} == {first.id, last.id}
    assert {(event.job, event.tags) for event in readers["tag"].events} == {(first.id, ("a", "b"))}
    assert [event.job for event in readers["tag and state"].events] == [first.id, second.id]
    assert {event.job for event in readers["task and tag"].events} == {second.id}


async def test_a_job_can_be_watched_alone(engine: Engine) -> None:
    job = await submit(engine, "forever")
    other = await submit(engine, "forever")
    await becomes(engine, other, State.RUNNING)
    reader = await reads(engine, EventFilter(job=job.id))
    await cancel(engine, other)
    await cancel(engine, job)
    await reader.has(1)
    assert [(event.job, event.state) for event in reader.events] == [(job.id, State.CANCELLED)]


async def test_an_unknown_task_is_named(engine: Engine) -> None:
    with pytest.raises(UnknownTaskError, match="'no-such-task' is not one of: broken, double, forever"):
        await known(engine.watch(EventFilter(task="no-such-task")))


async def test_no_event_is_ahead_of_the_status(start: Start) -> None:
    """With a journal a change is told when it is committed."""
    async with start(double, broken, workers=4) as engine:
        reader = await reads(engine)
        order = [State.EMPTY, State.SCHEDULED, State.QUEUED, State.RUNNING, *sorted(TERMINAL)]

        looked: list[tuple[Event, Status | None]] = []

        def look(event: Event) -> None:
            soon = engine.peek(event.job)
            if isinstance(soon, Later):
                soon.when_known(lambda: looked.append((event, soon.value())))
            else:
                looked.append((event, soon))

        reader.looks = look
        jobs = [await submit(engine, "double", number) for number in range(50)]
        for job in jobs:
            await finished(engine, job)
        await reader.has(150)
        await until_true(lambda: len(looked) == 150)
        for event, status in looked:
            assert status is not None, "an event of a job that clients cannot see"
            assert order.index(State(status.state)) >= order.index(State(event.state))


async def test_a_submission_that_is_not_committed_is_no_event(start: Start) -> None:
    async with start(double) as engine:
        reader = await reads(engine)
        engine.submit(asked_for("double", 1))
        taken = reader.feed.take()
        # One of another process has not come there either.
        is_there = engine.durability == "memory" and not is_gateway(engine)
        assert len(taken.events) == (1 if is_there else 0)


async def test_who_comes_back_goes_on_after_the_last_event(engine: Engine) -> None:
    reader = await reads(engine)
    job = await finished(engine, await submit(engine, "double", 1))
    events = await reader.has(3)
    assert not reader.feed.resumed
    for number, rest in ((events[0].number - 1, 3), (events[0].number, 2), (events[2].number, 0)):
        again = await reads(engine, EventFilter(job=job.id), after=number)
        assert again.feed.resumed
        await again.has(rest)
        assert again.events == events[3 - rest :]


@pytest.mark.parametrize("number", [0, -1, 1, 1 << 200])
async def test_an_event_of_another_start_is_no_place_to_go_on_from(engine: Engine, number: int) -> None:
    await finished(engine, await submit(engine, "double", 1))
    reader = await reads(engine, after=number)
    assert not reader.feed.resumed
    await reader.has(0)


async def test_an_event_of_an_earlier_start_or_one_to_come_is_none_either(start: Start) -> None:
    """Nodes that share their events keep them over a start. Then who comes back misses none."""
    async with start(double) as engine:
        reader = await reads(engine)
        await finished(engine, await submit(engine, "double", 1))
        events = await reader.has(3)
        last = events[-1].number
        assert not (await known(engine.watch(EVERYTHING, last + 1))).resumed
    async with start(double) as engine:
        for number, rest in ((last - 3, events), (last, [])):
            feed = await known(engine.watch(EVERYTHING, number))
            assert list(feed.take().events) == (rest if feed.resumed else [])
        assert not (await known(engine.watch(EVERYTHING, last + 3))).resumed


async def test_who_is_slow_hears_how_much_is_missed(start: Start) -> None:
    async with start(double, events={"kept": 8}) as engine:
        feed = await known(engine.watch(EVERYTHING))
        woken: list[int] = []
        feed.when_more(lambda: woken.append(1))
        first = begun = feed.place
        for number in range(5):
            await finished(engine, await submit(engine, "double", number))
        await catch_up(engine)
        taken = feed.take()
        assert len(woken) == 1
        if is_gateway(engine):
            # The first events were on their way before any was given up.
            begun = taken.place
            await until_true(lambda: len(woken) == 2)
            taken = feed.take()
            woken.pop()
        assert taken.missed > 0
        last = begun + len(taken.events) + taken.missed
        assert last - first == 15
        assert [event.number for event in taken.events] == list(range(begun + taken.missed + 1, last + 1))
        assert taken.place == feed.place == last
        assert not (await known(engine.watch(EVERYTHING, begun))).resumed
        assert not (await known(engine.watch(EVERYTHING, begun + taken.missed - 1))).resumed
        assert (await known(engine.watch(EVERYTHING, begun + taken.missed))).resumed
        # From here on nothing is missed.
        await finished(engine, await submit(engine, "double", 1))
        await until_true(lambda: len(woken) == 2)
        await catch_up(engine)
        assert feed.take().missed == 0


async def test_who_comes_late_takes_many_events_in_parts_and_misses_none(engine: Engine) -> None:
    for wanted, count in ((EVERYTHING, 900), (EventFilter(states=frozenset({State.SUCCEEDED})), 300)):
        feed = await known(engine.watch(wanted))
        begun = feed.place
        batch = await submit_batch(engine, *["double"] * 300)
        await batch_finished(engine, batch)
        await catch_up(engine)
        events: list[Event] = []
        more = True
        async with asyncio.timeout(PATIENCE_S):
            while more or len(events) < count:
                # Of an engine in another process they come one part after the other.
                await asyncio.sleep(0)
                taken = feed.take()
                assert taken.missed == 0
                assert [event for event in taken.events if event.number > taken.place] == []
                events += taken.events
                more = taken.more
        feed.close()
        numbers = [event.number for event in events]
        assert len(numbers) == count
        if wanted is EVERYTHING:
            assert numbers == list(range(begun + 1, begun + 901))


async def test_who_has_gone_is_not_woken(engine: Engine) -> None:
    readers = [await reads(engine), await reads(engine, EventFilter(task="double")), await reads(engine)]
    assert (await counts(engine)).readers == 3
    for reader in readers[:2] * 2:
        reader.feed.close()
    assert (await counts(engine)).readers == 1
    await finished(engine, await submit(engine, "double", 1))
    await readers[2].has(3)
    assert [len(reader.events) for reader in readers] == [0, 0, 3]
    assert (await counts(engine)).readers == 0


async def test_a_reader_that_ends_others_while_it_is_woken_harms_nobody(engine: Engine) -> None:
    readers = [await reads(engine) for _ in range(5)]

    def end_all(_: Event) -> None:
        for reader in readers:
            reader.feed.close()

    for reader in readers:
        reader.looks = end_all
    await finished(engine, await submit(engine, "double", 1))

    async def have_gone() -> bool:
        return (await counts(engine)).readers == 0

    await until(have_gone)
    # One was told.
    assert sorted(len(reader.events) for reader in readers)[:4] == [0] * 4


async def until_true(condition: Callable[[], bool]) -> None:
    async def asked() -> bool:
        return condition()

    await until(asked)


async def test_who_comes_back_again_and_again_under_load_sees_each_event_once(start: Start) -> None:
    """Readers of all kinds come and go at random while hundreds of jobs run."""
    wanted = [
        EVERYTHING,
        EventFilter(task="broken"),
        EventFilter(tag="a"),
        EventFilter(tag="a", states=frozenset({State.FAILED})),
        EventFilter(states=frozenset({State.RUNNING})),
    ] * 4
    async with start(double, broken, workers=4, events={"kept": 100_000}) as engine:
        whole = await reads(engine)
        told: list[list[Event]] = [[] for _ in wanted]
        over = asyncio.Event()

        async def come_and_go(number: int) -> None:
            chance, place = random.Random(number), whole.feed.place
            last = False
            while not last:
                last = over.is_set()
                reader = await reads(engine, wanted[number], place)
                assert reader.feed.resumed
                await asyncio.sleep(chance.choice([0, 0, 0.001, 0.01, 0.1]))
                if last:
                    await until_true(partial(has_come_to, reader.feed, whole.feed.place))
                # As a client that got an id by a sign of life, or by the last event.
                place = reader.feed.place if chance.random() < 0.5 or not reader.events else reader.events[-1].number
                reader.feed.close()
                assert reader.missed == 0
                told[number] += reader.events

        async def load() -> None:
            chance = random.Random(0)
            jobs = []
            for number in range(400):
                tags = chance.choice([(), ("a",), ("a", "b")])
                jobs.append(await submit(engine, chance.choice(["double", "broken"]), number, tags=tags))
                if chance.random() < 0.2:
                    await asyncio.sleep(0.002)
            for job in jobs:
                await finished(engine, job)
            await whole.has(1200)
            over.set()

        tasks: list[Awaitable[None]] = [load(), *map(come_and_go, range(len(wanted)))]
        await asyncio.gather(*tasks)
        events = whole.events
        numbers = [event.number for event in events]
        assert numbers == list(range(numbers[0], numbers[0] + 1200))
        for one, found in zip(wanted, told, strict=True):
            assert [event.number for event in found] == [event.number for event in events if one.fits(event)]


def has_come_to(feed: Feed, place: int) -> bool:
    return feed.place >= place


async def test_nothing_is_recorded_for_nobody(start: Start) -> None:
    """The number of the last event does not grow without a reader since the start."""
    async with start(double) as engine:
        for number in range(3):
            await finished(engine, await submit(engine, "double", number))
        first = await known(engine.watch(EVERYTHING))
        assert first.take().events == []
        second = await known(engine.watch(EVERYTHING))
        assert second.place == first.place


async def test_a_drain_is_told_to_the_end(start: Start) -> None:
    async with start(double, forever) as engine:
        reader = await reads(engine)
        job = await finished(engine, await submit(engine, "double", 1))
        assert await engine.drain(1) == 0
        assert (await peek(engine, job)).state == State.SUCCEEDED
        await reader.has(3)


def _ends(taken: Sequence[Portion]) -> bool:
    """Whether the last event that was taken is the end of a job. A portion may be empty."""
    events = [event for portion in taken for event in portion.events]
    return bool(events) and events[-1].state == State.SUCCEEDED


async def test_readers_at_the_same_place_share_what_they_take(engine: Engine) -> None:
    """So each event is made into text once."""
    feeds = [await known(engine.watch(EVERYTHING)) for _ in range(100)]
    taken: list[list[Portion]] = [[] for _ in feeds]

    def takes(feed: Feed, own: list[Portion]) -> Callable[[], object]:
        return lambda: own.append(feed.take())

    for feed, own in zip(feeds, taken, strict=True):
        feed.when_more(takes(feed, own))
    job = await finished(engine, await submit(engine, "double", 1))
    await until_true(lambda: all(_ends(own) for own in taken))
    for own in taken:
        assert [event.job for portion in own for event in portion.events] == [job.id] * 3
    # A round of all readers may be cut in the midst, and those after it take more at a time.
    assert len({id(portion) for own in taken for portion in own}) <= 10
    for feed in feeds:
        feed.close()


async def test_more_readers_than_there_may_be_are_refused(start: Start) -> None:
    async with start(double, events={"streams": 2}) as engine:
        feeds = [await known(engine.watch(EVERYTHING)) for _ in range(2)]
        with pytest.raises(StreamsFullError, match=r"2 streams of events are open, .* \(events.streams\)") as raised:
            await known(engine.watch(EVERYTHING))
        assert raised.value.retry_after_s >= 1
        feeds[0].close()
        assert (await counts(engine)).readers == 1
        (await known(engine.watch(EVERYTHING))).close()


async def test_a_reader_that_goes_before_it_has_taken_its_stream_leaves_its_place(start: Start) -> None:
    async with start(double, events={"streams": 1}) as engine:
        coming = engine.watch(EVERYTHING)
        if not isinstance(coming, Later):
            coming.close()
        else:
            # Its connection ends in the turn in which the stream comes.
            woken = asyncio.Event()
            coming.when_known(woken.set)
            await woken.wait()
            coming.cancel()
        await catch_up(engine)
