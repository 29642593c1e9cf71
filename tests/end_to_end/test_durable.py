"""A server with a journal: what it said is true after it has ended, by whatever way."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
from headway.core.job import State, Terms, encode_terms
from headway.core.journal.journal import Journal

from tests.end_to_end.process import TASKS, Gate, Server, children, environment, launch, wait_until, writer_of
from tests.protocol.wire import post, request, submission

Begin = Callable[..., Server]
KEYED = 'Idempotency-Key: "k-1"'
BODY = submission("give", 7)


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Start a server on the journal of this test; ``end`` it before the next."""
    started: list[Server] = []

    def start(**settings: object) -> Server:
        all_settings = {
            "server__port": 0,
            "tasks": TASKS,
            "journal__path": str(tmp_path / "journal.db"),
            "drain_linger": 0,
        }
        server = Server(tmp_path, all_settings | settings)
        started.append(server)
        server.wait_until_serving()
        return server

    yield start
    for server in started:
        server.kill()


def end(server: Server, number: int) -> None:
    server.signal(number)
    assert server.wait() == (-number if number == signal.SIGKILL else 0), server.said


EITHER = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a journal, that tests share."""
    folder = tmp_path_factory.mktemp("kept")
    with launch(folder, {"journal__path": str(folder / "journal.db")}) as server:
        yield server


def test_the_journal_is_counted(kept: Server) -> None:
    for value in range(3):
        kept.run("give", value)
    found, stats = kept.metrics(), kept.stats()["journal"]
    assert found["headway_journal_commit_seconds_count",] == stats["commits"] >= 3
    assert found["headway_journal_pending",] == found["headway_journal_full",] == 0
    assert found["headway_journal_bytes",] == stats["bytes"] > 4096


@EITHER
def test_what_was_said_of_a_job_is_said_again(begin: Begin, number: int) -> None:
    """Its key is known too, and one that failed can be sent again."""
    server = begin(jobs__backoff=30)
    paths = {
        "succeeded": server.run("give", {"a": 1}),
        "octets": server.run("octets", 10),
        "nothing": server.run("nothing"),
        "failed": server.run("fail", {"message": "why"}, priority=7),
        "scheduled": server.submit("give", 1, delay=1000),
        "cancelled": server.submit("give", 1, delay=1000),
        "forgotten": server.run("give", 1),
        "retrying": server.submit("fail", "again", retries=1),
        "keyed": server.ask(post(BODY, KEYED))["location"],
    }
    server.wait_for(paths["keyed"], "succeeded")
    for name in ("cancelled", "forgotten"):
        assert server.delete(paths[name]).status == 204
    server.wait_for(paths["retrying"], "retrying")

    def say(server: Server) -> tuple[dict[str, object], dict[str, float]]:
        said: dict[str, object] = {}
        moments: dict[str, float] = {}
        for name, path in paths.items():
            head, document, result = server.head(path), server.get(path), server.get(f"{path}/result")
            names = ("job-state", "job-reason", "job-attempt")
            # Times are kept to the microsecond, and rounded when they are told: the last digit may differ.
            times = {"submitted", "started", "ended"}
            members = {name: value for name, value in document.json.items() if name not in times | {"retry_after_ms"}}
            moments |= {f"{name} {key}": when(document.json[key]) for key in times & document.json.keys()}
            body = result.body if result.status == 200 else result.status
            said[name] = (head.status, [head.headers.get(name) for name in names], members, body)
        return said, moments

    def when(told: object) -> float:
        return datetime.fromisoformat(str(told)).timestamp()

    before = say(server)
    end(server, number)
    server = begin(jobs__backoff=30)
    said, moments = say(server)
    assert said == before[0]
    assert moments == pytest.approx(before[1], abs=0.002)
    # A run that is unknown here may have given such a number (docs/adr/0018).
    assert server.head(paths["nothing"][:-16] + "0" * 16).status == 421
    again = server.ask(post(BODY, KEYED))
    assert (again["location"], again["idempotency-replayed"]) == (paths["keyed"], "true")
    assert server.ask(post(submission("give", 8), KEYED)).status == 422
    resubmitted = server.ask(request("POST", f"{paths['failed']}/retry", body=b""))
    assert resubmitted.status == 202
    server.wait_for(resubmitted["location"], "failed")
    assert "why" in server.get(resubmitted["location"]).json["detail"]
    end(server, signal.SIGTERM)


def test_jobs_that_wait_are_left_to_the_next_start_and_only_running_ones_waited_for(begin: Begin, gate: Gate) -> None:
    server = begin(workers=1)
    running, waiting = server.submit("until_file", gate.path), [server.submit("give", number) for number in range(5)]
    server.wait_for(running, "running")
    server.signal(signal.SIGTERM)
    server.wait_for_line("draining")
    assert [server.head(path)["job-state"] for path in waiting] == ["queued"] * 5
    gate.open()
    server.wait_for_line("drained: 5 jobs are left to the next start")
    assert server.wait() == 0
    server = begin(workers=1)
    for number, path in enumerate(waiting):
        server.wait_for(path, "succeeded")
        assert server.get(f"{path}/result").json == number
    assert server.head(running)["job-state"] == "succeeded"


@pytest.mark.long
def test_what_was_running_is_tried_again_and_an_attempt_that_a_kill_ended_counts(begin: Begin, gate: Gate) -> None:
    server = begin(drain_timeout=0.1)
    path = server.submit("until_file", gate.path)
    for number in (signal.SIGTERM, signal.SIGKILL):
        assert server.wait_for(path, "running")["job-attempt"] == "1"
        end(server, number)
        server = begin(drain_timeout=0.1)
    server.wait_for(path, "running")
    gate.open()
    server.wait_for(path, "succeeded")
    told = [(past["attempt"], past["outcome"]) for past in server.get(path).json["attempts"]]
    assert told == [(1, "failed"), (2, "succeeded")]


@pytest.mark.long
def test_a_job_that_the_server_dies_of_is_not_tried_for_ever(begin: Begin, gate: Gate) -> None:
    server = begin()
    path = server.submit("until_file", gate.path)
    for _ in range(3):
        server.wait_for(path, "running")
        end(server, signal.SIGKILL)
        server = begin()
    answer = server.wait_for(path, "failed")
    assert (answer["job-reason"], answer["job-attempt"]) == ("crashed", "3")
    assert "when the server died" in server.get(path).json["detail"]


def test_results_over_the_budget_are_read_from_the_disk(begin: Begin) -> None:
    server = begin(results__max_bytes=3500, results__max_result_bytes=2000)
    paths = [server.run("give", "x" * (1000 + number)) for number in range(5)]
    assert server.stats()["results"]["evicted"] > 0
    with server.wire() as wire:
        wire.send(b"".join(request("GET", f"{path}/result") for path in paths))
        assert [len(wire.read().json) for _ in paths] == [1000, 1001, 1002, 1003, 1004]
        tag = f'If-None-Match: "{paths[0].removeprefix("/jobs/")}"'
        assert wire.ask(request("GET", f"{paths[0]}/result", tag)).status == 304
        assert wire.ask(request("HEAD", f"{paths[0]}/result")).headers["content-length"] == "1002"
        assert wire.still_serves()


def test_a_result_that_is_forgotten_twice_at_once_is_answered_twice(kept: Server) -> None:
    path = kept.run("give", 1)
    wires = [kept.wire() for _ in range(4)]
    for wire in wires:
        wire.send(request("DELETE", path))
    assert [wire.read("DELETE").status for wire in wires] == [204] * 4
    for wire in wires:
        wire.socket.close()
    assert kept.get(f"{path}/result").status == 410


# Idempotency keys.


def test_a_key_seen_before_is_the_same_job(server: Server) -> None:
    first = server.ask(post(BODY, KEYED))
    assert (first.status, "idempotency-replayed" in first.headers) == (202, False)
    server.wait_for(first["location"], "succeeded")
    again = server.ask(post(BODY, KEYED))
    assert (again.status, again["location"], again["idempotency-replayed"]) == (200, first["location"], "true")
    assert server.ask(post(submission("give", 8), KEYED)).status == 422
    put = request("PUT", "/jobs/k-1", "Content-Type: application/json", body=BODY)
    assert server.ask(put)["location"] == first["location"]


def test_a_job_can_be_asked_for_by_its_key(server: Server) -> None:
    put = request("PUT", "/jobs/by-key.1", "Content-Type: application/json", body=BODY)
    path = server.ask(put)["location"]
    server.wait_for(path, "succeeded")
    for method in ("HEAD", "GET"):
        answer = server.ask(request(method, "/jobs/by-key.1"))
        assert (answer.status, answer["content-location"]) == (200, path)
    assert server.get("/jobs/by-key.1/result").json == 7
    assert server.delete("/jobs/by-key.1").status == 204
    assert server.head("/jobs/by-key.2").status == 404


@pytest.mark.parametrize("key", ["", '""', "a b", '"a', "ä", "x" * 201, '"a", "b"'])
def test_a_key_that_cannot_be_one_is_refused(server: Server, key: str) -> None:
    answer = server.ask(post(BODY, f"Idempotency-Key: {key}"))
    assert answer.status == 422
    assert answer.json["errors"][0]["field"] == "key"


@pytest.mark.parametrize("key", ["a" * 36, "0" * 36, "A" * 36, "0" * 40])
def test_a_key_with_the_form_of_an_id_is_refused(server: Server, key: str) -> None:
    put = request("PUT", f"/jobs/{key}", "Content-Type: application/json", body=BODY)
    assert server.ask(put).status == 422


def test_two_keys_in_one_request_are_refused(server: Server) -> None:
    assert server.ask(post(BODY, KEYED, KEYED)).status == 400


def test_a_refused_submission_does_not_use_up_its_key(server: Server) -> None:
    key = "Idempotency-Key: refused-first"
    assert server.ask(post(submission("no-such-task"), key)).status == 422
    assert server.ask(post(BODY, key)).status == 202


def test_the_same_key_at_the_same_time_is_one_job(kept: Server) -> None:
    before = sum(kept.stats()["jobs"].values())
    wires = [kept.wire() for _ in range(8)]
    for wire in wires:
        wire.send(post(BODY, KEYED))
    assert len({wire.read()["location"] for wire in wires}) == 1
    for wire in wires:
        wire.socket.close()
    assert sum(kept.stats()["jobs"].values()) == before + 1


def test_keys_are_forgotten_in_time(start: Begin) -> None:
    server = start(idempotency__seconds=0.2)
    path = server.ask(post(BODY, KEYED))["location"]
    time.sleep(0.25)
    assert server.ask(post(BODY, KEYED))["location"] != path


# Trouble.


@contextmanager
def file_limit(server: Server, size: int) -> Iterator[None]:
    """Let no file of the journal's grow past ``size`` bytes, as a full disk would."""
    pid = writer_of(server)
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def test_a_full_disk_refuses_jobs_and_heals(kept: Server) -> None:
    kept.expected_errors.append("no room")
    done = kept.run("give", 1)
    before = sum(kept.stats()["jobs"].values())
    with file_limit(kept, 4096):
        answer = kept.ask(post(BODY))
        assert (answer.status, answer["retry-after"]) == (503, "5")
        assert answer.json["type"] == "urn:headway:problem:journal-full"
        assert kept.get("/readyz").status == 503
        assert kept.ask(post(BODY)).status == 503
        assert kept.head(done).status == 200
        assert kept.get(f"{done}/result").json == 1
        batch = request("POST", "/batches", "Content-Type: application/json", body=b"[%b]" % BODY)
        assert kept.ask(batch).status == 503
    wait_until(lambda: kept.ask(post(BODY)).status, lambda status: status == 202)
    assert kept.get("/readyz").status == 200
    assert sum(kept.stats()["jobs"].values()) == before + 1


@pytest.mark.long
def test_a_job_that_ends_while_the_disk_is_full_is_told_when_there_is_room(begin: Begin, gate: Gate) -> None:
    server = begin(workers=1)
    path, behind = server.submit("until_file", gate.path), server.submit("give", 2)
    server.wait_for(path, "running")
    with file_limit(server, 4096):
        assert server.ask(post(BODY)).status == 503
        gate.open()
        time.sleep(0.1)
        assert server.head(path)["job-state"] == "running"
        assert server.head(behind)["job-state"] == "queued"
    server.wait_for(path, "succeeded")
    server.wait_for(behind, "succeeded")


def test_a_writer_that_dies_is_followed_by_another_and_the_server_goes_on(begin: Begin) -> None:
    server = begin()
    done, waiting = server.run("give", 1), server.submit("give", 2, delay=1000)
    writer = writer_of(server)
    os.kill(writer, signal.SIGKILL)
    assert server.get(f"{done}/result").json == 1
    assert server.get(server.run("give", 3) + "/result").json == 3
    server.wait_for_line("its writer was killed by SIGKILL")
    assert writer_of(server) != writer
    end(server, signal.SIGTERM)
    server = begin()
    assert server.get(f"{done}/result").json == 1
    assert server.head(waiting)["job-state"] == "scheduled"


def test_a_program_that_a_task_has_left_behind_does_not_keep_the_journal(begin: Begin) -> None:
    server = begin()
    # It has what the server had open, the end of the writer's pipe included.
    left = server.get(server.run("leave_behind") + "/result").json
    try:
        end(server, signal.SIGKILL)
        server = begin()
        assert server.get(server.run("give", 1) + "/result").json == 1
    finally:
        os.kill(left, signal.SIGKILL)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_terminal_signals_the_writer_too_and_the_server_ends_as_ever(begin: Begin, number: int) -> None:
    server = begin()
    path = server.run("give", 1)
    for pid in children(server):
        os.kill(pid, number)
    waiting = server.submit("give", 2, delay=1000)
    server.signal(number)
    assert server.wait() == 0
    server = begin()
    assert [server.head(one)["job-state"] for one in (path, waiting)] == ["succeeded", "scheduled"]


def cannot_start(folder: Path, **settings: object) -> str:
    """Start a server that ends by itself, and return the one line it says."""
    all_settings = {"server__port": 0, "tasks": TASKS, "journal__path": str(folder / "journal.db")} | settings
    ended = subprocess.run(
        [sys.executable, "-m", "headway", "serve"],
        cwd=folder,
        env=environment(all_settings),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 3, ended
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    return ended.stderr


def test_a_damaged_journal_is_refused(begin: Begin, tmp_path: Path) -> None:
    server = begin()
    server.run("give", "x" * 100_000)
    end(server, signal.SIGTERM)
    path = tmp_path / "journal.db"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    said = cannot_start(tmp_path)
    assert said.startswith(f"headway: {path}: damaged")
    assert "headway journal recover" in said


@pytest.mark.long
def test_jobs_whose_task_is_not_declared_any_more_keep_the_server_from_starting(begin: Begin, tmp_path: Path) -> None:
    server = begin()
    over, waiting = server.run("give", 1), server.submit("give", 1, delay=1000)
    end(server, signal.SIGTERM)
    assert "1 of 'give'" in cannot_start(tmp_path, tasks=["examples.tasks"])
    server = begin()
    server.delete(waiting)
    end(server, signal.SIGTERM)
    # One that is over needs no task.
    server = begin(tasks=["examples.tasks"])
    assert server.get(over).json["task"] == "give"


@pytest.mark.long
def test_two_servers_cannot_have_the_same_journal(begin: Begin, tmp_path: Path) -> None:
    begin()
    assert "another process has this journal open" in cannot_start(tmp_path)


@pytest.mark.parametrize(
    ("settings", "still_kept"),
    [({"retention__jobs": 3}, 3), ({"retention__jobs": 1_000_000, "workers": 1, "queue__size": 2}, 6)],
)
def test_the_board_may_have_another_size(begin: Begin, settings: dict[str, object], still_kept: int) -> None:
    server = begin()
    over, waiting = [server.run("give", n) for n in range(6)], [server.submit("give", n, delay=1000) for n in range(6)]
    end(server, signal.SIGTERM)
    server = begin(**settings)
    kept = [server.head(path)["job-state"] for path in over]
    assert kept == ["expired"] * (6 - still_kept) + ["succeeded"] * still_kept
    assert {server.head(path)["job-state"] for path in waiting} == {"scheduled"}
    if "queue__size" in settings:
        assert server.ask(post(BODY)).status == 429
    else:
        server.run("give", 1)


def test_a_start_reads_many_jobs_quickly(tmp_path: Path, begin: Begin) -> None:
    asyncio.run(fill(tmp_path / "journal.db", 10_000))
    server = begin()
    said = server.wait_for_line(r"recovered 10000 jobs in \d")
    # A third of a second on a quiet machine; make crash tells it.
    assert float(re.findall(r"in ([\d.]+) s", said)[0]) < 5
    assert server.stats()["jobs"]["succeeded"] == 10_000


async def fill(path: Path, count: int) -> None:
    """Make a journal of ``count`` jobs that are over."""
    journal, now, done = Journal(path, "normal"), time.time(), asyncio.Event()

    def committed(changes: int) -> None:
        if changes == 2 * count:
            done.set()

    journal.run(asyncio.get_running_loop(), committed, list, print)
    for sequence in range(1, count + 1):
        journal.submit(
            sequence=sequence,
            state=State.QUEUED,
            task="give",
            payload=b"1",
            priority=5,
            due=None,
            terms=encode_terms(Terms(1.0, 0)),
            submitted=now,
        )
        journal.end(
            sequence=sequence,
            state=State.SUCCEEDED,
            attempt=1,
            started=now,
            reason=0,
            ended=now,
            place=sequence,
            until=now + 3600.0,
        )
    await done.wait()
    await journal.close()


def test_a_kill_leaves_each_change_with_its_entry_in_the_audit_log_and_no_entry_without(begin: Begin) -> None:
    server = begin()
    clients = 8
    content = b"[%b]" % b",".join([submission("give", 1, delay=1000)] * 400)
    batch = server.ask(request("POST", "/batches", "Content-Type: application/json", body=content))
    ids = [str(job_id) for job_id in batch.json["jobs"]]
    wires = [server.wire() for _ in range(clients)]
    for number, wire in enumerate(wires):
        wire.send(b"".join(request("DELETE", f"/jobs/{job_id}") for job_id in ids[number::clients]))
    acknowledged = {ids[number] for number, wire in enumerate(wires) if wire.read("DELETE").status == 204}
    end(server, signal.SIGKILL)
    server = begin()
    entries = server.get("/audit?limit=1000").json["entries"]
    cancelled = {job["id"] for job in server.get("/jobs?state=cancelled&limit=1000").json["jobs"]}
    assert len(acknowledged) == clients
    assert acknowledged <= cancelled
    assert sorted(entry["target"] for entry in entries) == sorted(cancelled)
    assert [entry["number"] for entry in entries] == list(range(len(entries), 0, -1))
    for wire in wires:
        wire.close()
