"""A full disk is survived: reads go on, changes are refused at once and have no effect, and it heals by itself."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.process import TASKS, Gate, Server, wait_until, writer_of
from tests.protocol.wire import Answer, post, request, submission
from tests.small_disk import fill, small_disk

# Each test waits until a disk has room again.
pytestmark = pytest.mark.long

Begin = Callable[..., Server]
JSON = "Content-Type: application/json"
# Longer than an answer takes, shorter than a try of the writer's: one that waits for room comes later.
AT_ONCE_S = 0.8
FULL = "urn:headway:problem:journal-full"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    with small_disk(tmp_path / "disk", 16) as folder:
        yield folder


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Start a server on the journal of this test, ``disk/journal.db`` where there is a small disk."""
    started: list[Server] = []

    def start(**settings: object) -> Server:
        folder = tmp_path / "disk" if (tmp_path / "disk").exists() else tmp_path
        own: dict[str, object] = {"server__port": 0, "tasks": TASKS, "drain_linger": 0, "drain_timeout": 1}
        server = Server(tmp_path, own | {"journal__path": str(folder / "journal.db")} | settings)
        started.append(server)
        server.wait_until_serving()
        return server

    yield start
    for server in started:
        server.kill()


@contextmanager
def no_room(server: Server) -> Iterator[None]:
    """Let no file of the writer's grow."""
    pid = writer_of(server)
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


class Jobs:
    """A job of each kind, and what can be asked for of them that changes something."""

    def __init__(self, server: Server, gate: Gate) -> None:
        self.done = server.run("give", "x" * 1000)
        self.failed = server.run("fail", "why")
        self.running = server.submit("until_file", gate.path)
        self.waiting = server.submit("give", 1, delay=1000)
        jobs = b",".join(submission("give", n, delay=1000) for n in range(3))
        self.batch = server.ask(request("POST", "/batches", JSON, body=b"[%b]" % jobs))["location"]
        server.wait_for(self.running, "running")

    @property
    def changes(self) -> list[bytes]:
        """Requests that change something."""
        paths = (self.waiting, self.running, self.done, self.failed, self.batch)
        return [
            request("PATCH", self.waiting, JSON, body=b'{"priority": 9, "delay": 2000}'),
            request("PATCH", "/tasks/scan", JSON, body=b'{"dispatch": "hold", "reason": "later"}'),
            request("POST", "/jobs/cancel?task=scan", body=b""),
            *(request("DELETE", path) for path in paths),
            request("POST", f"{self.failed}/retry", body=b""),
            request("PUT", "/jobs/of-a.key", JSON, body=submission("give", 1)),
            post(submission("give", 1)),
            post(submission("give", 1), "Idempotency-Key: other"),
            request("POST", "/batches", JSON, body=b"[%b]" % submission("give", 1)),
        ]

    def say(self, server: Server) -> list[object]:
        """Return what is said of all."""
        states = [server.head(path)["job-state"] for path in (self.waiting, self.running, self.done, self.failed)]
        batch = server.get(self.batch).json
        answers: list[Answer] = [server.get(f"{self.done}/result"), server.get(self.failed)]
        found = [(answer.status, answer.json) for answer in answers]
        # So that 1,000 s remain what they are while seconds pass, and 2,000 s are others.
        task, due = server.get("/tasks/scan").json, round(int(server.head(self.waiting)["retry-after"]) / 500)
        return [states, batch["pending"], batch["cancelled"], found, task["dispatch"], task["reason"], due]


def full(server: Server) -> bool:
    """Make it known that there is no room."""
    return server.ask(post(submission("give", "y" * 20_000, delay=1000))).status == 503


def refused_at_once(server: Server, jobs: Jobs) -> None:
    before = jobs.say(server)
    for change in jobs.changes:
        begun = time.monotonic()
        answer = server.ask(change)
        assert (answer.status, answer["retry-after"], answer.json["type"]) == (503, "5", FULL), change
        assert time.monotonic() - begun < AT_ONCE_S, change
    assert server.get("/readyz").status == 503
    assert server.get("/healthz").status == 200
    assert jobs.say(server) == before


def all_are_accepted(server: Server, jobs: Jobs) -> None:
    wait_until(lambda: server.get("/readyz").status, lambda status: status == 200)
    codes = [server.ask(change).status for change in jobs.changes]
    # A job whose deletion is accepted has no payload to be sent again.
    assert codes == [200, 200, 202, 204, 202, 204, 204, 204, 410, 202, 202, 202, 202]
    assert server.head(jobs.waiting)["job-state"] == "cancelled"
    assert server.get(f"{jobs.done}/result").status == 410
    assert server.head(jobs.batch)["batch-cancelled"] == "3"


def test_all_changes_are_refused_at_once_and_have_no_effect_and_are_accepted_afterwards(
    begin: Begin, gate: Gate
) -> None:
    server = begin()
    jobs = Jobs(server, gate)
    with no_room(server):
        assert full(server)
        refused_at_once(server, jobs)
        # The writer has tried once more.
        time.sleep(1.5)
        refused_at_once(server, jobs)
    all_are_accepted(server, jobs)
    told = [line for line in server.said if "room" in line]
    assert ["no room (File too large)" in line for line in told] == [True, False]
    assert "there is room again after" in told[1]


def test_a_change_that_is_under_way_when_the_disk_is_full_is_refused_too(begin: Begin, gate: Gate) -> None:
    server = begin()
    jobs = Jobs(server, gate)
    for what in ("waiting", "running", "done"):
        path = getattr(jobs, what)
        state = server.head(path)["job-state"]
        with no_room(server), server.wire() as wire, server.wire() as other:
            begun = time.monotonic()
            wire.send(request("DELETE", path))
            other.send(request("DELETE", path))
            assert [wire.read("DELETE").status, other.read("DELETE").status] == [503, 503]
            assert time.monotonic() - begun < AT_ONCE_S
            assert server.head(path)["job-state"] == state
        wait_until(lambda: server.get("/readyz").status, lambda status: status == 200)
        assert server.head(path)["job-state"] == state
        assert server.get(f"{jobs.done}/result").status == 200
        assert server.delete(path).status == (202 if what == "running" else 204)


def test_a_job_in_the_queue_whose_cancellation_is_refused_is_run(begin: Begin, gate: Gate) -> None:
    server = begin(workers=1)
    running = server.submit("until_file", gate.path)
    server.wait_for(running, "running")
    queued = [server.submit("give", number) for number in range(3)]
    with no_room(server):
        assert server.delete(queued[1]).status == 503
        assert server.head(queued[1])["job-state"] == "queued"
        # Behind those that were there, but nowhere else.
        assert [server.head(path)["job-position"] for path in queued] == ["0", "2", "1"]
        gate.open()
    for path in (running, *queued):
        server.wait_for(path, "succeeded")
    assert server.get(f"{queued[1]}/result").json == 1


def test_a_job_that_ends_while_its_cancellation_is_refused_has_ended(begin: Begin, gate: Gate) -> None:
    server = begin()
    jobs = Jobs(server, gate)
    writer = writer_of(server)
    os.kill(writer, signal.SIGSTOP)
    with server.wire() as wire:
        wire.send(request("DELETE", jobs.running))
        wait_until(server.stats, lambda said: said["journal"]["pending"])
        gate.open()
        time.sleep(0.1)
        resource.prlimit(writer, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        os.kill(writer, signal.SIGCONT)
        assert wire.read("DELETE").status == 503
    assert server.head(jobs.running)["job-state"] == "running"
    assert server.delete(jobs.running).status == 503
    resource.prlimit(writer, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    server.wait_for(jobs.running, "succeeded")


def test_who_waits_for_an_end_to_be_written_is_answered_at_once(begin: Begin, gate: Gate) -> None:
    server = begin()
    jobs = Jobs(server, gate)
    writer = writer_of(server)
    os.kill(writer, signal.SIGSTOP)
    gate.open()
    wait_until(server.stats, lambda said: said["journal"]["pending"])
    with server.wire() as wire:
        wire.send(request("DELETE", jobs.running))
        time.sleep(0.1)
        resource.prlimit(writer, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        os.kill(writer, signal.SIGCONT)
        begun = time.monotonic()
        assert wire.read("DELETE").status == 503
        assert time.monotonic() - begun < AT_ONCE_S


def test_no_place_in_the_queue_is_lost_to_jobs_that_were_refused(begin: Begin) -> None:
    server = begin(queue__size=8, queue__max_bytes=35_000)
    with no_room(server), server.wire() as wire:
        # All at once, so that most are under way when it becomes known.
        wire.send(post(submission("give", "x" * 4000, delay=1000)) * 8)
        assert [wire.read().status for _ in range(8)] == [503] * 8
    wait_until(lambda: server.get("/readyz").status, lambda status: status == 200)
    with server.wire() as wire:
        # Nor is the room for their payloads.
        wire.send(post(submission("give", "x" * 4000, delay=1000)) * 9)
        assert [wire.read().status for _ in range(9)] == [202] * 8 + [429]


def test_jobs_whose_deletion_is_refused_go_on_as_if_it_had_not_been_asked_for(begin: Begin, gate: Gate) -> None:
    server = begin(workers=1)
    running, queued = server.submit("until_file", gate.path), server.submit("give", 1)
    scheduled = server.submit("give", 1, delay=1000, deadline=3)
    server.wait_for(running, "running")
    writer = writer_of(server)
    with no_room(server), ExitStack() as stack:
        wires = [stack.enter_context(server.wire()) for _ in range(3)]
        os.kill(writer, signal.SIGSTOP)
        for wire, path in zip(wires, (running, queued, scheduled), strict=True):
            wire.send(request("DELETE", path))
        assert server.get("/healthz").status == 200
        # The attempt ends while its cancellation is uncommitted.
        gate.open()
        time.sleep(0.2)
        os.kill(writer, signal.SIGCONT)
        assert [wire.read("DELETE").status for wire in wires] == [503] * 3
    server.wait_for(running, "succeeded")
    server.wait_for(queued, "succeeded")
    assert server.wait_for(scheduled, "failed")["job-reason"] == "deadline"


def test_a_small_disk_is_never_filled_by_the_log(disk: Path, begin: Begin) -> None:
    server = begin(retention__jobs=2)
    for number in range(30):
        path = server.run("give", f"{number}" + "x" * 900_000)
        assert server.head(path)["job-state"] == "succeeded"
    assert sum(file.stat().st_size for file in disk.iterdir()) < 15 << 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_start_on_a_full_disk_reads_and_refuses_and_heals(disk: Path, begin: Begin, gate: Gate, number: int) -> None:
    server = begin()
    jobs = Jobs(server, gate)
    server.signal(number)
    server.wait()
    ballast = fill(disk)
    server = begin()
    while not full(server):
        # The file and its log may have some room of their own.
        pass
    refused_at_once(server, jobs)
    ballast.unlink()
    server.wait_for(jobs.running, "running")
    all_are_accepted(server, jobs)
    assert sum("no room" in line for line in server.said) == 1
    assert sum("there is room again" in line for line in server.said) == 1


def test_a_deploy_on_a_full_disk_reads_and_refuses_and_heals(disk: Path, begin: Begin, gate: Gate) -> None:
    server = begin()
    jobs = Jobs(server, gate)
    ballast = fill(disk)
    while not full(server):
        pass
    assert "not deployed" not in server.deploy()
    while not full(server):
        pass
    refused_at_once(server, jobs)
    ballast.unlink()
    server.wait_for(jobs.running, "running")
    all_are_accepted(server, jobs)


def test_retention_heals_a_full_disk(disk: Path, begin: Begin) -> None:
    server = begin(retention__seconds=3)
    paths = [server.run("give", "x" * 300_000) for _ in range(8)]
    fill(disk)
    while not full(server):
        pass
    assert server.head(paths[-1]).status == 200
    wait_until(lambda: server.head(paths[-1]).status, lambda status: status == 410)
    # Nobody has made room but retention.
    wait_until(lambda: server.get("/readyz").status, lambda status: status == 200)
    assert server.get(server.run("give", "z" * 100_000) + "/result").status == 200
