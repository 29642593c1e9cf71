"""What an engine keeps does not grow with the jobs that it has done, once as many are kept as may be."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys

import pytest
from headway.core.interface import Engine
from headway.core.key import Key

from tests.core.contract.client import batch_finished, cancel, finished, submit, submit_batch
from tests.core.contract.conftest import Start
from tests.core.engines import broken, double

KEPT = 10
SETTINGS = {
    "workers": 8,
    "retention": {"jobs": KEPT, "failed": {"jobs": KEPT}, "cancelled": {"jobs": KEPT}},
    "idempotency": {"keys": KEPT},
    "attempts": {"max_bytes": 10_000},
}
# Of each task 256 run times are learnt: the warm-up has more jobs.
WARM, ROUNDS = 150, 300
JOBS_OF_A_ROUND = 7
# Blocks of memory that a job may leave: a number that is kept of each is one.
BLOCKS_MOST = 0.2


async def round_of(engine: Engine, number: int) -> None:
    """Run jobs that end in each way, under a key, in a batch and with a tag."""
    batch = await submit_batch(engine, "double", "broken")
    jobs = [
        await submit(engine, "double", number),
        await submit(engine, "double", number, tags=(f"number:{number}",)),
        await submit(engine, "broken", number, retries=1),
        await submit(engine, "double", number, key=Key.of(f"key-{number}", b"")),
    ]
    await cancel(engine, await submit(engine, "double", number, delay=100.0))
    await batch_finished(engine, batch)
    for job in jobs:
        await finished(engine, job)


@pytest.mark.long
async def test_jobs_that_are_no_longer_kept_leave_nothing(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    # pytest keeps what is logged of each that fails.
    caplog.set_level(logging.ERROR, "headway")
    async with start(double, broken, **SETTINGS) as engine:

        async def blocks_after(rounds: range) -> int:
            for number in rounds:
                await round_of(engine, number)
            # What is trimmed once a second.
            await asyncio.sleep(1.2)
            gc.collect()
            return sys.getallocatedblocks()

        before = await blocks_after(range(WARM))
        grown = await blocks_after(range(WARM, WARM + ROUNDS)) - before
    assert grown < BLOCKS_MOST * JOBS_OF_A_ROUND * ROUNDS, f"{grown} blocks by {JOBS_OF_A_ROUND * ROUNDS} jobs"
