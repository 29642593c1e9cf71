"""headway.testing, as a user's tests use it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest
from headway.core.errors import ConfigError, InvalidPayloadError, TaskError
from headway.core.tasks.result import ResultError
from headway.protocol.access.token_file import TokenFile

import headway
from headway import testing
from tests.headway.sample_tasks import BEGUN

TASKS = "tests.headway.sample_tasks"


def test_a_job_runs_when_the_test_says_so() -> None:
    with testing.Server(TASKS) as server:
        path = server.submit("tested_double", 21)
        server.run_until_idle()
        answer = server.head(path)
        assert (answer.status, answer.headers["job-state"]) == (200, "succeeded")
        assert server.get(f"{path}/result").json() == 42


def test_hours_take_no_time() -> None:
    began = time.monotonic()
    with testing.Server(TASKS, jobs={"retries": 1, "backoff": 600, "backoff_max": 600}) as server:
        delayed, sleeping, failing = (
            server.submit("tested_double", 1, delay=3600),
            server.submit("tested_sleep", 50),
            server.submit("tested_failure"),
        )
        server.run_until_idle()
        states = [server.head(path).headers["job-state"] for path in (delayed, sleeping, failing)]
        assert states == ["scheduled", "running", "retrying"]
        server.advance(50)
        assert server.head(sleeping).headers["job-state"] == "succeeded"
        assert server.head(failing).headers["job-state"] == "retrying"
        server.advance(550)
        assert server.head(failing).headers["job-reason"] == "error"
        assert server.head(delayed).headers["job-state"] == "scheduled"
        server.advance(3000)
        assert server.head(delayed).headers["job-state"] == "succeeded"
        assert server.now == pytest.approx(3600, abs=0.1)
        date = server.get("/jobs?state=succeeded").headers["date"]
        server.advance(60)
        assert server.head("/healthz").headers["date"] != date
    assert time.monotonic() - began < 10


def test_a_status_expires_by_the_clock() -> None:
    with testing.Server(TASKS, retention={"seconds": 60}) as server:
        path = server.submit("tested_double", 1)
        server.advance(59)
        assert server.head(path).status == 200
        server.advance(2)
        assert server.head(path).status == 410


def test_a_request_that_waits_moves_the_clock() -> None:
    with testing.Server(TASKS) as server:
        path = server.submit("tested_sleep", 12)
        answer = server.get(path, headers={"Prefer": "wait=20"})
        assert (answer.status, answer.json()["state"]) == (200, "succeeded")
        assert server.now == pytest.approx(12, abs=0.1)


def test_a_stream_has_the_events_of_this_time() -> None:
    """It may have no end, which nobody can wait for."""
    with testing.Server(TASKS) as server:
        path = server.submit("tested_sleep", 50)
        server.run_until_idle()
        answer = server.get(f"{path}/events")
        assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
        assert b'"state":"running"' in answer.body
        assert b"event: state" not in server.get("/events").body
        assert server.now < 1
        server.advance(50)
        assert b'"state":"succeeded"' in server.get(f"{path}/events").body


def test_threads_and_processes_are_waited_for() -> None:
    with testing.Server(TASKS) as server:
        paths = [server.submit("tested_in_thread", 0.05), server.submit("tested_in_process", 0.05)]
        server.run_until_idle()
        assert [server.head(path).status for path in paths] == [200, 200]


def test_attempts_have_what_is_declared_around_them() -> None:
    with testing.Server(TASKS) as server:
        BEGUN.clear()
        path = server.submit("tested_state")
        assert server.get(f"{path}/result", headers={"Prefer": "wait=9"}).json() == {"pool": 7}
        server.submit("tested_in_process", 0)
        server.run_until_idle()
        assert BEGUN == ["tested_state", "tested_in_process"]


def test_content_and_refusals_are_those_of_the_server() -> None:
    with testing.Server(TASKS) as server:
        answer = server.post("/tasks/tested_content/jobs", data=b"abc", headers={"Content-Type": "a/b"})
        server.run_until_idle()
        result = server.get(answer.headers["location"] + "/result")
        assert (result.headers["content-type"], result.body) == ("a/b", b"cba")
        assert server.post("/jobs", json={"task": "no"}).json()["type"] == "urn:headway:problem:unknown-task"
        assert server.delete("/nowhere").status == 404
        large = server.post("/jobs", data=b"x" * 2_000_000, headers={"Content-Type": "application/json"})
        assert (large.status, large.headers["connection"]) == (413, "close")
        with pytest.raises(RuntimeError, match="is not one of"):
            server.submit("no")


def test_tokens_of_the_current_folder_are_not_for_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    secret = TokenFile(Path("headway-tokens.yaml")).add("shop", ["view"])
    with testing.Server() as server:
        assert server.get("/jobs").status == 200
    with testing.Server(auth={"mode": "tokens"}) as server:
        assert server.get("/jobs").status == 401
        assert server.get("/jobs", headers={"Authorization": f"Bearer {secret}"}).status == 200


def test_time_is_real_again_afterwards() -> None:
    before = time.monotonic, time.time
    with testing.Server(TASKS):
        assert time.monotonic is not before[0]
    assert (time.monotonic, time.time) == before


def test_a_section_may_be_one_word_or_none_as_in_a_file_of_settings() -> None:
    with testing.Server(TASKS, auth="none", journal=None) as server:
        assert server.get("/readyz").headers["job-durability"] == "memory"


def test_wrong_settings_and_modules_are_one_line() -> None:
    with pytest.raises(ConfigError, match="settings of headway"):
        testing.Server(workers="many")
    for wrong in ({"journal": "x.db"}, {"auth": 7}):
        with pytest.raises(ConfigError, match="settings of headway"):
            testing.Server(**wrong)
    with pytest.raises(ConfigError, match="cannot be imported"):
        testing.Server("no_such_module")


def test_a_server_that_is_misused_says_so_in_one_line() -> None:
    with pytest.raises(ConfigError, match="kept in memory"):
        testing.Server(journal={"path": "headway.db"})
    with pytest.raises(ConfigError, match="engine: jobs are kept in memory"):
        testing.Server(engine="valkey://localhost:6379/0")
    with pytest.raises(RuntimeError, match="is not open"):
        testing.Server(TASKS).submit("tested_double", 1)
    with testing.Server(TASKS, journal={"sync": "normal"}) as server:
        for seconds in (-1, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="goes forwards"):
                server.advance(seconds)
        with pytest.raises(RuntimeError, match="one at a time"), testing.Server(TASKS):
            pass
        assert server.head("/healthz").status == 200


def test_a_coroutine_is_told_to_use_a_plain_test() -> None:
    async def wrong() -> None:
        with testing.Server(TASKS):
            pass

    with pytest.raises(RuntimeError, match="no coroutine"):
        asyncio.run(wrong())


async def doubled(payload: int, context: headway.Context) -> int:
    context.progress(50)
    return payload * 2


def told(_: object, context: headway.Context) -> object:
    return [context.id, context.attempt, context.state]


def reversed_content(body: headway.Body) -> bytes:
    return body.data[::-1]


def no_result(_: object) -> object:
    return object()


def test_one_run_of_a_task() -> None:
    context = testing.context()
    assert testing.run(doubled, 4, context) == 8
    assert context.percents == [50]
    assert testing.run(doubled, 4) == 8
    assert testing.run(told, None, testing.context("job", 2, {"pool": 7})) == ["job", 2, {"pool": 7}]
    assert testing.run(reversed_content, headway.Body(b"abc", "a/b")) == b"cba"
    with pytest.raises(InvalidPayloadError):
        testing.run(doubled, "x")
    with pytest.raises(ResultError):
        testing.run(no_result)
    with pytest.raises(TaskError):
        testing.run(lambda: None)


def test_the_import_has_no_effect() -> None:
    code = (
        "import time, threading; before = time.monotonic; import headway.testing; "
        "assert time.monotonic is before; assert threading.active_count() == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
