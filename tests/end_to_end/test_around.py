"""A lifespan and context managers around tasks in whole servers, and the trace context of a POST."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.process import ROOT, Server, wait_until
from tests.protocol.wire import post, request, submission

pytestmark = pytest.mark.long

TASKS = """
import asyncio, os
from pathlib import Path
import headway

def note(line):
    with open("notes", "a") as file:
        print(line, file=file)

@headway.lifespan
async def life():
    note(f"begins {os.getpid()}")
    if Path("hangs").exists():
        await asyncio.Event().wait()
    if Path("broken").exists():
        raise ConnectionError("no database\\nat all")
    yield {"pid": os.getpid()}
    note(f"ends {os.getpid()}")

@headway.around
def timed(context):
    context.log.info("%s begins", context.task)
    yield

@headway.task
async def here(_, context):
    return [context.state["pid"], context.traceparent]

@headway.task(run_in="process")
def there(_, context):
    return [context.state["pid"], context.traceparent]
"""
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-00"
HEADER = f"Traceparent: {TRACE}"
JSON = "Content-Type: application/json"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """The steps of the lifespans of a server in ``tmp_path``, which has the tasks."""
    (tmp_path / "shop_within.py").write_text(TASKS)
    return tmp_path / "notes"


SETTINGS: dict[str, Any] = {"tasks": ["shop_within"], "drain_linger": 0, "processes": 1, "log__level": "info"}


def started(folder: Path, **settings: object) -> Server:
    """Start a server with the tasks."""
    return Server(folder, {"server__port": 0, **SETTINGS, **settings})


def result(server: Server, sent: bytes) -> list[Any]:
    path = server.ask(sent)["location"]
    server.wait_for(path, "succeeded")
    found: list[Any] = server.get(f"{path}/result").json
    return found


def test_each_process_has_its_lifespan_and_each_job_its_trace(notes: Path, tmp_path: Path) -> None:
    server = started(tmp_path)
    try:
        server.wait_until_serving()
        pid, trace = result(server, post(submission("here"), HEADER))
        assert (pid, trace) == (server.process.pid, TRACE)
        other, trace = result(server, post(submission("there"), HEADER))
        assert (other != pid, trace) == (True, TRACE)
        assert notes.read_text().splitlines() == [f"begins {pid}", f"begins {other}"]
        # The client's own goes before that of the header. One that is not valid counts as none.
        assert result(server, post(submission("here", traceparent=OTHER), HEADER)) == [pid, OTHER]
        for wrong in ("", "00-0-0-01", TRACE.upper(), TRACE + "x", "00" + "-0" * 3, f"{TRACE}\r\n{HEADER}"):
            assert result(server, post(submission("here"), f"Traceparent: {wrong}")) == [pid, None]
        put = request("PUT", "/jobs/a-trace", JSON, HEADER, body=submission("here"))
        assert server.ask(put).status == 202
        server.wait_for("/jobs/a-trace", "succeeded")
        assert server.get("/jobs/a-trace/result").json == [pid, TRACE]
        body = json.dumps([{"task": "here"}, {"task": "here", "traceparent": OTHER}, {"task": "here"}]).encode()
        content = request("POST", "/tasks/here/jobs", "Content-Type: image/png", HEADER, body=b"\x89PNG")
        assert result(server, content) == [pid, TRACE]
        keyed = ("Content-Type: image/png", "Idempotency-Key: a-photo", HEADER)
        assert result(server, request("POST", "/tasks/here/jobs", *keyed, body=b"\x89PNG")) == [pid, TRACE]
        batch = server.ask(request("POST", "/batches", JSON, HEADER, body=body)).json["jobs"]
        for job, trace in zip(batch, (TRACE, OTHER, TRACE), strict=True):
            server.wait_for(f"/jobs/{job}", "succeeded")
            assert server.get(f"/jobs/{job}/result").json == [pid, trace]
        refused = server.ask(post(submission("here", traceparent="nonsense")))
        assert (refused.status, refused.json["errors"][0]["field"]) == (422, "traceparent")
        # Again with a known head: nothing of an earlier request is left.
        with server.wire() as wire:
            for header in ("", "", HEADER, "", HEADER):
                path = wire.ask(post(submission("here"), *filter(None, [header])))["location"]
                server.wait_for(path, "succeeded")
                assert server.get(f"{path}/result").json == [pid, TRACE if header else None]
        lines = [json.loads(line) for line in server.said if '"headway.task"' in line]
        assert {(line["message"], line["task"], line["attempt"]) for line in lines} == {
            ("here begins", "here", 1),
            ("there begins", "there", 1),
        }
        assert all(len(line["job"]) == 36 for line in lines)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert sorted(notes.read_text().splitlines()[2:]) == sorted([f"ends {pid}", f"ends {other}"])
    finally:
        server.kill()


@pytest.mark.parametrize("journal", [False, True], ids=["memory", "journal"])
def test_a_lifespan_that_raises_ends_the_start_in_one_line(notes: Path, tmp_path: Path, journal: bool) -> None:
    (tmp_path / "broken").touch()
    kept = {"journal__path": str(tmp_path / "journal.db")} if journal else {}
    server = started(tmp_path, **kept)
    try:
        assert server.wait() == 2
        (line,) = server.stderr
        assert line.startswith("headway: @lifespan: life (")
        assert line.endswith("raised ConnectionError: no database")
    finally:
        server.kill()


def test_a_signal_ends_a_start_whose_lifespan_waits(notes: Path, tmp_path: Path) -> None:
    (tmp_path / "hangs").touch()
    server = started(tmp_path)
    try:
        wait_until(notes.exists, bool)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        server.wait_for_line("ended while starting")
    finally:
        server.kill()


def test_a_deploy_leaves_the_lifespan_and_enters_it_anew(notes: Path, tmp_path: Path) -> None:
    server = started(tmp_path)
    try:
        server.wait_until_serving()
        pid = server.process.pid
        assert result(server, post(submission("here"))) == [pid, None]
        server.signal(signal.SIGHUP)
        server.wait_for_line("deployed: no client")
        assert result(server, post(submission("here"))) == [pid, None]
        steps = [line for line in notes.read_text().splitlines() if line.endswith(f" {pid}")]
        assert steps == [f"begins {pid}", f"ends {pid}", f"begins {pid}"]
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    finally:
        server.kill()


@pytest.mark.parametrize("run_in", ["thread", "process"])
def test_an_async_one_that_cannot_be_around_a_task_is_refused_by_the_start(tmp_path: Path, run_in: str) -> None:
    (tmp_path / "shop_async.py").write_text(
        "import headway\n@headway.around\nasync def timed(context):\n    yield\n"
        f"@headway.task(run_in='{run_in}')\ndef work(payload): ...\n"
    )
    server = Server(tmp_path, {"server__port": 0, "tasks": ["shop_async"]}, "--check", path=str(ROOT))
    try:
        assert server.wait() == (2 if run_in == "process" else 0)
        told = " ".join(server.stderr)
        assert ("timed (" in told and "is async, and task 'work' runs in a worker process" in told) == (
            run_in == "process"
        )
    finally:
        server.kill()
