"""What the answer to a submission promises, and submissions that demand a promise."""

import pytest
from headway.core.durability import PROMISES, Durability, keeps
from headway.core.errors import MisdirectedError, NotDurableError, UnknownTaskError
from headway.core.interface import Engine, Later
from headway.core.key import Key

from tests.core.contract.client import asked_for, counts, finished, peek, submit
from tests.core.contract.conftest import Start
from tests.core.engines import double, forever, is_gateway, known


def test_each_promise_keeps_those_before_it() -> None:
    found = [[keeps(promised, demanded) for demanded in PROMISES] for promised in PROMISES]
    assert found == [[True, False, False], [True, True, False], [True, True, True]]


@pytest.mark.parametrize("demanded", PROMISES)
async def test_a_demand_is_met_or_refused_without_effect(engine: Engine, demanded: Durability) -> None:
    wanted = asked_for("double", 2, durability=demanded)
    key = Key.of(f"demands {demanded}", b"content")
    if keeps(engine.durability, demanded):
        assert (await finished(engine, (await known(engine.submit(wanted, key))).status)).task == "double"
        assert (await known(engine.submit_batch([asked_for("double", 1), wanted]))).status.count == 2
        return
    before = (await counts(engine)).jobs[:]
    told = f'demands durability "{demanded}". This server promises "{engine.durability}"'
    with pytest.raises(NotDurableError, match=told):
        await known(engine.submit(wanted, key))
    with pytest.raises(NotDurableError, match=told):
        await known(engine.submit_batch([asked_for("double", 1), wanted]))
    assert (await counts(engine)).jobs == before
    # The key is not used up.
    assert (await submit(engine, "double", 1, key)).task == "double"


async def test_an_unknown_task_is_told_before_a_demand(engine: Engine) -> None:
    with pytest.raises(UnknownTaskError, match="is not one of"):
        await known(engine.submit(asked_for("dubble", durability="disk")))


async def test_an_engine_that_promises_more_than_memory_keeps_its_jobs(start: Start) -> None:
    async with start(double, forever) as engine:
        promised = engine.durability
        accepted = engine.submit(asked_for("forever"))
        # An answer that promises a store waits for it, and so does one of another process.
        assert isinstance(accepted, Later) == (promised != "memory" or is_gateway(engine))
        job = (await known(accepted)).status
    async with start(double, forever) as engine:
        assert engine.durability == promised
        if promised == "memory":
            with pytest.raises(MisdirectedError):
                await peek(engine, job)
        else:
            assert (await peek(engine, job)).task == "forever"
