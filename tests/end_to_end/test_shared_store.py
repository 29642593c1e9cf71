"""Nodes of one store over HTTP: the same answers at each, a store that is away, a deploy, and starts that cannot be."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from tests.conftest import fresh_database
from tests.end_to_end.process import AS_SHIPPED, TASKS, Gate, Server, launch, wait_until
from tests.protocol.wire import post, request, submission
from tests.valkey_servers import StoreServer, serving

# Longer than a call waits for the store.
LONG_S = 2.3


@contextmanager
def node(folder: Path, name: str, url: str, **settings: object) -> Iterator[Server]:
    """Serve as one of the nodes of a store."""
    (folder / name).mkdir()
    chosen = {"engine": url, "journal__path": AS_SHIPPED, "tasks": TASKS, **settings}
    with launch(folder / name, chosen) as server:
        yield server


@pytest.fixture
def own(tmp_path: Path) -> Iterator[StoreServer]:
    """A store that keeps all that it has acknowledged over a SIGKILL."""
    with serving(tmp_path / "store", appendonly="yes", appendfsync="always") as server:
        yield server


def reason(answer: object) -> str:
    """Return the reason of a problem document."""
    return str(answer.json["type"]).rpartition(":")[2]  # type: ignore[attr-defined]


def test_a_job_of_one_node_is_read_and_waited_for_at_the_other(tmp_path: Path, store_url: str, gate: Gate) -> None:
    with node(tmp_path, "one", store_url) as one, node(tmp_path, "other", store_url) as other:
        path = one.submit("until_file", gate.path)
        other.wait_for(path, "running")
        late = []
        with other.wire() as wire:
            wire.send(request("GET", path, "Prefer: wait=10"))
            time.sleep(0.3)
            gate.open()
            answer = wire.read()
        assert (answer.status, answer["job-state"]) == (200, "succeeded")
        for _ in range(10):
            path = one.submit("give", 1, delay=0.1)
            answer = other.ask(request("GET", path, "Prefer: wait=10"))
            ended = time.time()
            assert answer["job-state"] == "succeeded"
            listed = one.get(path).json
            late.append(ended - _seconds(listed["ended"]))
            assert listed == other.get(path).json
        # From the end of the job to the answer at the other node.
        assert sorted(late)[len(late) // 2] < 0.1, late
        # The same key at the other node is the same job.
        key = "Idempotency-Key: once"
        first, second = (server.ask(post(submission("give", 5), key)) for server in (one, other))
        assert (first.status, first["location"]) == (202, second["location"])
        assert second["idempotency-replayed"] == "true"
        assert reason(other.ask(post(submission("give", 6), key))) == "key-reused"
        jobs = ("/tasks/give", "/jobs?task=give", path, f"{path}/result")
        for target in ("/", "/stats", "/metrics", "/tasks", "/readyz", "/openapi.json", *jobs):
            for method in ("GET", "HEAD"):
                assert [server.ask(request(method, target)).status for server in (one, other)] == [200, 200], target


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.long
def test_a_store_that_is_away_is_told_to_clients_and_comes_back(tmp_path: Path, own: StoreServer, gate: Gate) -> None:
    with node(tmp_path, "one", own.url) as one:
        assert one.get("/readyz")["job-durability"] == "disk"
        done, runs = one.run("give", 1), one.submit("until_file", gate.path)
        one.wait_for(runs, "running")
        with one.wire() as waiting:
            waiting.send(request("GET", runs, "Prefer: wait=4"))
            time.sleep(0.1)
            own.kill()
            time.sleep(LONG_S)
            for data in (post(submission("give", 1)), post(submission("give", 1), "Idempotency-Key: k")):
                answer = one.ask(data)
                assert (answer.status, reason(answer)) == (503, "engine-away")
                assert 1 <= int(answer["retry-after"]) <= 3
                assert 1000 <= int(answer["retry-after-ms"]) <= 3000
            assert one.head(done).status == 200
            for target in (runs, f"{done}/result", f"{runs}/log", "/jobs?task=give", "/jobs/a-key"):
                answer = one.get(target)
                assert (answer.status, reason(answer)) == (503, "engine-away"), target
            assert one.delete(runs).status == 503
            # Never 404 but for what was never issued.
            assert one.head(runs).status == 503
            ready = one.get("/readyz")
            assert (ready.status, ready.body[:30]) == (503, b"the store cannot be reached: [")
            assert one.get("/healthz").status == 200
            assert not one.stats()["store"]["up"]
            assert one.get("/metrics").status == 200
            # The client that waited is answered, too.
            assert waiting.read().status == 503
        gate.open()
        own.start()
        wait_until(lambda: one.get("/readyz").status, lambda status: status == 200)
        # The result of the job that ran has waited for the store.
        one.wait_for(runs, "succeeded")
        assert one.get(f"{one.run('give', 7)}/result").json == 7
        assert sum(one.stats()["jobs"].values()) == 3


@pytest.mark.long
def test_a_client_that_waits_for_its_submission_learns_the_job_while_the_store_is_away(
    tmp_path: Path, own: StoreServer, gate: Gate
) -> None:
    """It was accepted: after a 503 the client would submit it again, and it would run twice."""
    body = submission("until_file", gate.path)
    with node(tmp_path, "one", own.url) as one, one.wire() as single, one.wire() as many:
        head = ("Content-Type: application/json", "Prefer: wait=3")
        single.send(request("POST", "/jobs", *head, body=body))
        many.send(request("POST", "/batches", *head, body=b"[" + body + b"]"))
        time.sleep(1)
        own.kill()
        job, batch = single.read(), many.read()
        assert (job.status, batch.status) == (202, 202)
        assert job["preference-applied"] == batch["preference-applied"] == "wait=3"
        own.start()
        wait_until(lambda: one.get("/readyz").status, lambda status: status == 200)
        gate.open()
        one.wait_for(job["location"], "succeeded")
        wait_until(lambda: one.get(batch["location"]).status, lambda status: status == 200)


@pytest.mark.long
def test_a_node_is_deployed_without_its_jobs(tmp_path: Path, store_url: str, gate: Gate) -> None:
    with node(tmp_path, "one", store_url, drain_timeout=0.5) as one:
        done, runs = one.run("give", 1), one.submit("until_file", gate.path)
        one.wait_for(runs, "running")
        assert "not deployed" not in one.deploy()
        assert one.head(done).status == 200
        # It was put back, and begins again.
        one.wait_for(runs, "running")
        assert one.get(runs).json["attempt"] == 1
        gate.open()
        one.wait_for(runs, "succeeded")


def test_a_deploy_to_another_store_is_refused(tmp_path: Path, store: StoreServer) -> None:
    settings = tmp_path / "headway.yaml"
    settings.write_text(f"engine: {fresh_database(store)}\n")
    with launch(tmp_path, {"journal__path": AS_SHIPPED}) as one:
        done = one.run("give", 1)
        for other in (f"engine: {fresh_database(store)}\n", ""):
            settings.write_text(other)
            said = one.deploy()
            assert "not deployed" in said
            assert "is another" in said
        assert one.head(done).status == 200
        one.expected_errors.append("not deployed")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("valkey://127.0.0.1:1", "engine: valkey://127.0.0.1:1/0 cannot be reached"),
        ("valkey://me:secret@{host}/0", "engine: valkey://me:***@{host}/0 refuses the user or the password"),
        ("valkey://{host}/100000", "engine: valkey://{host}/100000 has no database 100000"),
        ("rediss://{host}/0", "engine: rediss://{host}/0"),
        ("valkey://{host}/0?cluster=true", "engine: valkey://{host}/0?cluster=true is no cluster"),
    ],
)
@pytest.mark.long
def test_a_store_that_cannot_be_used_is_told_in_a_line(tmp_path: Path, store: StoreServer, url: str, said: str) -> None:
    host = f"127.0.0.1:{store.port}"
    command = ["headway", "serve", "--check", "--port", "0", "--engine", url.format(host=host)]
    ended = _run(tmp_path, command)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"headway: {said.format(host=host)}")
    assert "secret" not in line


def _run(folder: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", *command]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
