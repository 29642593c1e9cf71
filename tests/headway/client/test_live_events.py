"""Events of a live server, through a deploy."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from headway.client import AsyncClient, Client, JobEvent, Refused
from tests.conftest import Start
from tests.end_to_end.process import Gate, Server
from tests.headway.client.both import Ask, both
from tests.protocol.wire import PATIENCE_S


@contextmanager
def heard(events: Iterator[JobEvent]) -> Iterator[list[JobEvent]]:
    """Collect events beside the test."""
    found: list[JobEvent] = []
    thread = threading.Thread(target=lambda: found.extend(events), daemon=True)
    thread.start()
    yield found
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


@both
def test_events_of_a_job_end_with_it(server: Server, ask: Ask, gate: Gate) -> None:
    job = ask(server.port, lambda client: client.submit("until_file", gate.path, tags=["a", "b,c"]))
    threading.Timer(0.3, gate.open).start()
    found: list[JobEvent] = ask(server.port, lambda client: client.job(job.id).events())
    states = [event.state for event in found]
    assert states[-2:] in (["queued", "succeeded"], ["running", "succeeded"])
    assert {(event.kind, event.id, event.task, event.tags) for event in found} == {
        ("state", job.id, "until_file", ("a", "b,c"))
    }
    assert found[-1].time is not None
    again = ask(server.port, lambda client: client.job(job.id).events(after=found[-1].event_id))
    assert again == []
    (ended,) = ask(server.port, lambda client: client.job(job.id).events())
    assert (ended.state, ended.attempt) == ("succeeded", 1)


@both
def test_events_of_all_jobs_are_chosen(server: Server, ask: Ask) -> None:
    tag = f"chosen by {ask.__name__}"
    stop = threading.Event()

    def submit(client: Any) -> None:
        while not stop.wait(0.05):
            client.submit("fail", {"message": "no"}, tags=[tag], retries=0)
            client.submit("nothing", tags=[tag])

    with Client(f"http://127.0.0.1:{server.port}") as client:
        others = threading.Thread(target=submit, args=(client,))
        others.start()
        try:
            found = ask(server.port, lambda client: client.events(task="fail", state="failed", tag=tag), most=3)
        finally:
            stop.set()
            others.join()
    assert {(event.task, event.state, event.reason, event.tags) for event in found} == {
        ("fail", "failed", "error", (tag,))
    }
    assert len({event.event_id for event in found}) == 3


@pytest.mark.parametrize(("wanted", "fault"), [({"state": "gone"}, "gone"), ({"task": "no_such_task"}, "no_such_task")])
@both
def test_events_of_nonsense_are_refused(server: Server, ask: Ask, wanted: dict[str, str], fault: str) -> None:
    with pytest.raises(Refused, match=fault):
        ask(server.port, lambda client: client.events(**wanted))


@pytest.mark.long
def test_events_go_on_through_a_deploy(start: Start, tmp_path: Path, gate: Gate) -> None:
    """The events of the next process have other places, so some may be missed, and that is told."""
    server = start(journal__path=str(tmp_path / "journal.db"), drain_timeout=0.1, drain_linger=0)
    with Client(f"http://127.0.0.1:{server.port}") as client:
        job = client.submit("until_file", gate.path)
        with heard(job.events()) as found:
            while not found:
                time.sleep(0.01)
            server.deploy()
            gate.open()
        assert job.wait().state == "succeeded"
    assert (found[0].state, found[-1].state) == ("running", "succeeded")
    assert "reset" in [event.kind for event in found]


def test_a_stream_that_is_left_holds_no_connection(server: Server) -> None:
    """A client of two connections leaves more streams than that."""
    url = f"http://127.0.0.1:{server.port}"
    with Client(url, connections=2) as client:
        for _ in range(4):
            job = client.submit("nothing")
            for _ in job.events():
                break
        assert client.submit("give", 1).result(10) == 1

    async def run() -> None:
        async with AsyncClient(url, connections=2) as client:
            for _ in range(4):
                job = await client.submit("nothing")
                async with aclosing(job.events()) as events:
                    async for _ in events:
                        break
            assert await (await client.submit("give", 1)).result(10) == 1

    asyncio.run(asyncio.wait_for(run(), PATIENCE_S))
