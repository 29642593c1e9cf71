"""Jobs in the hands of a node: claimed, run, ended, put back and given up."""

from __future__ import annotations

import time

from headway.core.job import State
from headway.core.valkey.record import decode_result

from tests.core.engines import double, triple
from tests.core.valkey.nodes import KEYS, standing


async def test_jobs_run_and_end(store_url: str) -> None:
    async with standing(store_url, double, triple) as node:
        ran = await node.submit("double", 21)
        ran += await node.submit("triple", 14)
        assert [facts.state for facts in await node.over(*ran)] == [State.SUCCEEDED] * 2
        kept = [decode_result(await node.link.call("GET", KEYS.result(sequence))).body for sequence in ran]
        assert kept == [b"42", b"42"]


async def test_a_thousand_jobs_take_few_steps(store_url: str) -> None:
    async with standing(store_url, double, workers=32) as node:
        began = time.perf_counter()
        await node.over(*await node.submit("double", 1, count=1000))
        print(1000 / (time.perf_counter() - began))
        calls = await node.link.call("INFO", "commandstats")
        print(calls)
