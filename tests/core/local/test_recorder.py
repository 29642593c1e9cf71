"""When events are no longer recorded: nobody has read any for a while."""

from __future__ import annotations

import time

from headway.core.events import EventFilter
from headway.core.local.recorder import KEPT_S

from tests.core.engines import double, engine_with, over, submit

EVERYTHING = EventFilter()


async def test_who_comes_back_after_a_pause_in_the_record_is_told_so() -> None:
    async with engine_with(double) as engine:
        feed = engine.watch(EVERYTHING)
        await over(engine, submit(engine, "double", 1))
        taken = feed.take()
        assert len(taken.events) == 3
        feed.close()
        # Within the time, whoever comes back goes on.
        engine.recorder.tick(time.monotonic() + KEPT_S - 1)
        await over(engine, submit(engine, "double", 2))
        again = engine.watch(EVERYTHING, taken.place)
        assert again.resumed
        assert len(again.take().events) == 3
        # A reader is there.
        engine.recorder.tick(time.monotonic() + 2 * KEPT_S)
        last = again.place
        again.close()
        engine.recorder.tick(time.monotonic() + KEPT_S + 1)
        await over(engine, submit(engine, "double", 3))
        for place in (taken.place, last):
            late = engine.watch(EVERYTHING, place)
            assert (late.resumed, late.take().events) == (False, [])
            late.close()
