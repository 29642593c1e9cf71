"""Payloads, batches and the history of a live server."""

from __future__ import annotations

import pytest

from headway.client import JobExpired, NotIssued, Submission
from tests.end_to_end.process import Gate, Server
from tests.headway.cli.conftest import run
from tests.headway.client.both import Ask, both


@both
def test_a_payload_is_read_while_it_is_kept(server: Server, ask: Ask, gate: Gate) -> None:
    job = ask(server.port, lambda client: client.submit("until_file", gate.path))
    assert ask(server.port, lambda client: client.job(job.id).read_payload()) == gate.path
    data, media_type = ask(server.port, lambda client: client.job(job.id).raw_payload())
    assert (data, media_type) == (b'"%b"' % gate.path.encode(), "application/json")
    assert run(server.port, "payload", job.id).out == f'"{gate.path}"'
    gate.open()
    assert ask(server.port, lambda client: client.job(job.id).wait(10)).state == "succeeded"
    with pytest.raises(JobExpired, match="no longer kept"):
        ask(server.port, lambda client: client.job(job.id).read_payload())
    assert run(server.port, "payload", job.id).code == 3


@both
def test_a_payload_of_no_job_is_an_error(server: Server, ask: Ask) -> None:
    with pytest.raises(NotIssued):
        ask(server.port, lambda client: client.job("no-such-job").read_payload())


@both
def test_the_last_batches_are_listed(server: Server, ask: Ask) -> None:
    made = ask(server.port, lambda client: client.submit_batch([Submission("nothing"), Submission("fail")]))
    ask(server.port, lambda client: client.batch(made.id).wait(10))
    first = ask(server.port, lambda client: client.batches())[0]
    assert (first.id, first.succeeded, first.failed, first.pending, first.finished) == (made.id, 1, 1, 0, True)


@both
def test_the_history_tells_what_ended(server: Server, ask: Ask) -> None:
    job = ask(server.port, lambda client: client.submit("fail"))
    ask(server.port, lambda client: client.job(job.id).wait(10))
    told = ask(server.port, lambda client: client.history(0.5))
    assert (told.seconds, len(told.spans)) == (60, 30)
    assert sum(span.failed or 0 for span in told.spans) >= 1
    assert sum(told.failed["fail"]) >= 1
    assert sum(told.ended["fail"]) >= sum(told.failed["fail"])
    last = told.spans[-1]
    assert last.begin is not None
    assert set(last.run) == {"p50", "p95", "p99"}
