"""A server with gateways: reads without the engine, deploys that refuse nothing, and what is told of what is lost."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.end_to_end.process import AS_SHIPPED, TASKS, Gate, Server, children, headway, launch, wait_until
from tests.end_to_end.test_deploy import Load
from tests.lives.server import linux
from tests.protocol.wire import PATIENCE_S, post, request, submission

DEPLOYS = int(os.environ.get("ROUNDS", "3"))
# On a machine that is busy with other things any Python takes its time to start.
PAUSE_MOST_S = 3.0
DIED = r"ended by signal 9, and is started again"
pytestmark = pytest.mark.long
BOTH = pytest.mark.parametrize("journal", [None, "jobs.db"], ids=["memory", "journal"])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with two gateways, that tests share which kill nothing."""
    with launch(tmp_path_factory.mktemp("gateways"), {"server__gateways": 2, "journal__path": None}) as started:
        yield started


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition."""
    wait_until(condition, bool)


def parts(server: Server, what: str) -> list[int]:
    """Return the processes of a kind of part."""
    told = f'"what":"{what}"'.encode()
    found = []
    for pid in children(server):
        # One that is just ending has none.
        with suppress(OSError):
            if told in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(pid)
    return found


def engine_of(server: Server) -> int:
    """Return the process of the engine."""
    (engine,) = parts(server, "engine")
    return engine


def killed(server: Server, pid: int) -> None:
    """Kill a part of ``server`` and have that expected."""
    server.expected_errors.append(DIED)
    os.kill(pid, signal.SIGKILL)


def wait_for_engine(server: Server) -> None:
    """Wait until unfinished jobs can be told of again."""
    until(lambda: server.get("/readyz").status == 200)


def test_jobs_go_their_way(shared: Server) -> None:
    path = shared.submit("give", [1, 2])
    assert shared.head(path, "Prefer: wait=10")["job-state"] == "succeeded"
    assert shared.get(path + "/result").json == [1, 2]
    assert shared.get("/tasks/give").json["name"] == "give"
    assert shared.get("/jobs?task=give").json["jobs"][0]["state"] == "succeeded"


def test_what_was_never_issued_and_what_another_has_issued(shared: Server) -> None:
    path = shared.run("nothing")
    assert shared.head(path[:-1] + ("0" if path[-1] != "0" else "1")).status == 404
    assert shared.head("/jobs/" + "0" * 8 + path[14:]).status == 421


def test_metrics_are_those_of_all_gateways(shared: Server) -> None:
    def asked() -> float:
        return shared.metrics().get(("headway_http_requests_total", "200", "HEAD /jobs/{id}"), 0.0)

    path = shared.run("nothing")
    # Each gateway tells the engine once a second.
    time.sleep(2.5)
    before = asked()
    # Each on a connection of its own, so that both gateways get some.
    for _ in range(20):
        assert shared.head(path).status == 200
    wait_until(asked, lambda count: count == before + 20)
    assert shared.stats()["connections"] >= 1


def test_what_a_gateway_has_counted_outlives_it(start: Start) -> None:
    server = start(server__gateways=1, journal__path=None)
    server.expected_errors.append("ended with exit code 0, and is started again")
    path = server.run("nothing")
    assert server.head(path).status == 200
    before = server.metrics()["headway_http_requests_total", "200", "HEAD /jobs/{id}"]
    for _ in range(50):
        server.head(path)
    (gateway,) = parts(server, "gateway")
    os.kill(gateway, signal.SIGTERM)
    until(lambda: parts(server, "gateway") not in ([], [gateway]))
    assert server.metrics()["headway_http_requests_total", "200", "HEAD /jobs/{id}"] == before + 50


def test_the_process_in_the_metrics_is_all_parts(shared: Server) -> None:
    of_all = [shared.process.pid, *parts(shared, "engine"), *parts(shared, "gateway")]
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in of_all)
    metrics = shared.metrics()
    # Each part alone is more than a tenth of it.
    assert metrics["process_resident_memory_bytes",] == pytest.approx(pages * os.sysconf("SC_PAGE_SIZE"), rel=0.1)
    assert metrics["process_threads",] >= len(of_all)
    assert not [name for name, *_ in metrics if name.startswith("python_gc")]


def test_the_memory_that_is_told_is_of_all_parts(shared: Server) -> None:
    told = shared.wait_for_line("memory in MiB")
    assert "calls that 2 gateways keep 128.0," in told
    assert " connections " in told


def test_a_rate_is_that_of_all_gateways(start: Start) -> None:
    server = start(server__gateways=2, journal__path=None, rates__polls=5, rates__polls_window=3600)
    codes = [server.head("/tasks").status for _ in range(20)]
    assert codes.count(200) == 5
    assert codes.count(429) == 15


@BOTH
def test_deploys_refuse_nothing(start: Start, journal: str | None) -> None:
    server = start(server__gateways=2, journal__path=journal)
    load = Load(server)

    def deploy() -> None:
        for _ in range(DEPLOYS):
            server.deploy()
            time.sleep(0.3)

    load.run(deploy)
    clients = (*load.polls, *load.submits)
    slowest = max(client.slowest for client in clients)
    print(f"{DEPLOYS} deploys, longest pause {slowest:.2f} s; {load}")
    assert load.refused_for_now == 0
    assert sum(client.unanswered for client in clients) == 0
    assert slowest < PAUSE_MOST_S
    with server.wire() as wire:
        for path, number in load.jobs.items():
            assert wire.ask(request("GET", path + "/result", "Prefer: wait=20")).json == number


@BOTH
def test_who_waits_across_a_deploy_gets_the_answer(start: Start, gate: Gate, journal: str | None) -> None:
    server = start(server__gateways=1, journal__path=journal, workers=1)
    first, second = server.submit("until_file", gate.path), server.submit("give", 7)
    server.wait_for(first, "running")
    with ThreadPoolExecutor(2) as threads:
        waiting = threads.submit(server.get, second + "/result", "Prefer: wait=20")
        deployed = threads.submit(server.deploy)
        time.sleep(0.3)
        # The engine waits for the job that runs, and accepts others all the while.
        later = server.submit("give", 8)
        gate.open()
        assert "not deployed" not in deployed.result(PATIENCE_S)
        assert waiting.result(PATIENCE_S).json == 7
    assert server.get(later + "/result", "Prefer: wait=20").json == 8
    assert server.head(first)["job-state"] == "succeeded"


@pytest.mark.parametrize("moment", ["deploying: ", "executing the new program"])
def test_a_signal_to_end_in_a_deploy_loses_no_job_that_waits(
    start: Start, gate: Gate, tmp_path: Path, moment: str
) -> None:
    server = start(server__gateways=1, journal__path=None, workers=1)
    first, written = server.submit("until_file", gate.path), tmp_path / "written"
    server.wait_for(first, "running")
    for number in range(3):
        server.submit("note", {"path": str(written), "number": number})
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_line("deploying: ")
    if moment != "deploying: ":
        gate.open()
        server.wait_for_line(moment)
    server.signal(signal.SIGTERM)
    time.sleep(0.1)
    gate.open()
    assert server.wait() == 0
    assert written.read_text() == "0\n1\n2\n"


def test_other_settings_replace_the_gateways(start: Start, tmp_path: Path) -> None:
    server = start(server__gateways=2, journal__path=None)
    before = children(server)
    path = server.run("nothing")
    (tmp_path / "config.yaml").write_text("http: {failed_status: 200}\n")
    server.deploy()
    until(lambda: len({*children(server)} - {*before}) == 2)
    until(lambda: len(children(server)) == 3)
    assert engine_of(server) in before
    assert server.head(path).status == 200
    assert server.head(server.run("stubborn_failure", 1, retries=0)).status == 200


def test_without_the_engine_what_has_finished_is_told(start: Start, gate: Gate) -> None:
    server = start(server__gateways=1, journal__path=None)
    failed, finished = server.run("stubborn_failure", 1, retries=0), server.run("give", 1)
    running, delayed = server.submit("until_file", gate.path), server.submit("give", 1, delay=60)
    server.wait_for(running, "running")
    killed(server, engine_of(server))
    until(lambda: server.head(running).status != 202)
    told = [server.head(path).status for path in (finished, failed, running, delayed)]
    # The next engine may be there already.
    assert told[:2] == [200, 424]
    assert {*told[2:]} <= {503, 410}
    wait_for_engine(server)
    for path in (running, delayed):
        lost = server.get(path)
        assert (lost.status, lost["job-state"], lost["job-reason"]) == (410, "cancelled", "lost")
        assert lost.json["reason"] == "lost"
    assert server.head(finished).status == 200
    assert server.get(finished + "/result").status == 410
    assert server.head(failed)["job-reason"] == "error"
    assert server.get(server.run("give", 2) + "/result").json == 2


def test_with_a_journal_nothing_is_lost_with_the_engine(start: Start) -> None:
    server = start(server__gateways=2, journal__path="jobs.db")
    paths = [server.submit("give", number, delay=0.5 * (number % 2)) for number in range(50)]
    killed(server, engine_of(server))
    for number, path in enumerate(paths):
        until(lambda path=path: server.head(path).status == 200)  # type: ignore[misc]
        assert server.get(path + "/result").json == number


def starts_again(server: Server) -> None:
    """Kill the engine, and wait until the next one has been started, which cannot do anything yet."""
    before = engine_of(server)
    killed(server, before)
    until(lambda: any(pid != before for pid in parts(server, "engine")))


def wait_for_other_gateways(server: Server, before: list[int]) -> None:
    """Wait until others have taken over, with the settings of a deploy, and those of before are gone."""
    until(lambda: bool(now := parts(server, "gateway")) and not {*now} & {*before})
    wait_for_engine(server)


@pytest.mark.parametrize("journal", [None, "jobs.db"], ids=["memory", "journal"])
def test_a_deploy_is_made_by_an_engine_that_was_starting_again(
    start: Start, tmp_path: Path, journal: str | None
) -> None:
    server = start(server__gateways=1, journal__path=journal)
    (tmp_path / "config.yaml").write_text("http: {failed_status: 200}\n")
    gateways = parts(server, "gateway")
    starts_again(server)
    server.deploy()
    wait_for_other_gateways(server, gateways)
    assert server.head(server.run("stubborn_failure", 1, retries=0)).status == 200


def test_a_deploy_that_comes_while_there_is_no_engine_is_made_by_the_next(start: Start, tmp_path: Path) -> None:
    server = start(server__gateways=1, journal__path="jobs.db")
    (tmp_path / "config.yaml").write_text("http: {failed_status: 200}\n")
    gateways = parts(server, "gateway")
    killed(server, engine_of(server))
    server.wait_for_line(DIED)
    server.deploy()
    wait_for_other_gateways(server, gateways)
    assert server.head(server.run("stubborn_failure", 1, retries=0)).status == 200


@pytest.mark.parametrize("journal", [None, "jobs.db"], ids=["memory", "journal"])
def test_an_engine_that_was_starting_again_ends_in_order(start: Start, journal: str | None) -> None:
    server = start(server__gateways=1, journal__path=journal)
    starts_again(server)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_a_call_that_is_held_is_answered_by_the_next_engine(start: Start) -> None:
    server = start(server__gateways=1, journal__path=None)
    killed(server, engine_of(server))
    until(lambda: server.get("/readyz").status == 503)
    path = server.submit("give", 3)
    assert server.get(path + "/result", "Prefer: wait=10").json == 3


def test_a_gateway_that_dies_takes_its_connections_alone(start: Start) -> None:
    server = start(server__gateways=2, journal__path=None)
    path = server.run("nothing")
    first, second = parts(server, "gateway")
    killed(server, first)
    until(lambda: len(children(server)) == 3 and first not in children(server))
    assert second in children(server)
    for _ in range(20):
        assert server.head(path).status == 200


def test_a_gateway_that_dies_in_a_drain_is_started_again(start: Start, gate: Gate) -> None:
    server = start(server__gateways=1, journal__path=None, drain_timeout=20)
    running = server.submit("until_file", gate.path)
    server.wait_for(running, "running")
    server.signal(signal.SIGTERM)
    server.wait_for_line("draining: 1 jobs")
    killed(server, parts(server, "gateway")[0])
    wait_until(lambda: parts(server, "gateway"), bool)
    assert server.get(running).json["state"] == "running"
    gate.open()
    assert server.wait() == 0


@linux
def test_a_part_that_cannot_be_started_ends_no_other(start: Start) -> None:
    server = start(server__gateways=2, journal__path=None)
    path, engine = server.run("nothing"), engine_of(server)
    server.expected_errors.append("cannot be started")
    before = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (4, before[1]))
    killed(server, parts(server, "gateway")[0])
    server.wait_for_line("cannot be started")
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, before)
    until(lambda: len(parts(server, "gateway")) == 2)
    assert engine_of(server) == engine
    for _ in range(10):
        assert server.head(path).status == 200


@pytest.mark.parametrize("task", ["end_at_once", "end_in_a_thread"])
def test_an_engine_that_a_task_has_ended_is_started_again_whatever_its_exit_code(start: Start, task: str) -> None:
    server = start(server__gateways=1, journal__path=None)
    for code in (0, 1, 2, 3, 143):
        said = f"the engine ended with exit code {code}, and is started again"
        server.expected_errors.append(said)
        # The engine may be gone before the answer.
        server.ask(post(submission(task, code)))
        server.wait_for_line(said)
        wait_for_engine(server)
    assert server.head(server.run("nothing"))["job-state"] == "succeeded"


@pytest.mark.parametrize("code", [0, 3])
def test_a_line_says_that_a_task_has_ended_the_engine_in_a_drain(tmp_path: Path, gate: Gate, code: int) -> None:
    said = f"the engine ended with exit code {code} before it was drained: the server ends"
    settings = {"server__gateways": 1, "journal__path": None, "drain_timeout": 20}
    with launch(tmp_path, settings, exit_code=code) as server:
        server.expected_errors.append(said)
        server.wait_for(server.submit("end_once_there_is", {"path": gate.path, "code": code}), "running")
        server.signal(signal.SIGTERM)
        server.wait_for_line("draining: 1 jobs")
        gate.open()
        assert server.wait() == code
        assert [line for line in server.said if said in line]


def test_an_engine_whose_journal_is_gone_ends_the_server(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    with launch(tmp_path, {"server__gateways": 1, "journal__path": str(path)}, exit_code=3) as server:
        server.run("give", 1)
        server.expected_errors += [DIED, "cannot be started"]
        # A database of another kind.
        os.kill(engine_of(server), signal.SIGSTOP)
        for file in tmp_path.glob("j.db*"):
            file.unlink()
        path.write_bytes(b"no journal" * 1000)
        os.kill(engine_of(server), signal.SIGKILL)
        assert server.wait() == 3
        (line,) = server.stderr
        assert "j.db" in line
        server.stderr.clear()


def test_no_part_outlives_the_supervisor(tmp_path: Path) -> None:
    settings = {"server__gateways": 2, "server__port": 0, "journal__path": None, "drain_linger": 0}
    server = Server(tmp_path, settings)
    server.wait_until_serving()
    parts = children(server)
    # The engine and two gateways.
    assert len(parts) >= 3
    server.kill()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in parts))


def test_without_the_supervisor_the_jobs_that_run_are_finished(tmp_path: Path, gate: Gate) -> None:
    settings = {"server__gateways": 1, "server__port": 0, "journal__path": "jobs.db", "tasks": TASKS}
    server = Server(tmp_path, settings)
    server.wait_until_serving()
    running = server.submit("until_file", gate.path)
    server.wait_for(running, "running")
    os.kill(server.process.pid, signal.SIGKILL)
    # The engine looks once a second whether it is there, and a second signal would end the job.
    time.sleep(3.5)
    gate.open()
    # Until the last part has closed its log.
    server.kill()
    with launch(tmp_path, {"journal__path": "jobs.db"}) as again:
        told = again.get(running).json
        assert (told["state"], len(told["attempts"])) == ("succeeded", 1)


def test_nonsense_told_to_the_supervisor_ends_nothing(start: Start) -> None:
    server = start(server__gateways=2, journal__path=None)
    server.expected_errors.append("the files of the engine have not come")
    (path,) = set(re.findall(rb'"path":"([^"]+)/engine"', Path(f"/proc/{engine_of(server)}/environ").read_bytes()))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(path + b"/notify")
        for nonsense in (b"", b"\xff", b"X_HEADWAY_SERVING=all", b"X_HEADWAY_PROGRAM="):
            sender.send(nonsense)
        socket.send_fds(sender, [b"X_HEADWAY_SERVING=1"], [sender.fileno()])
    killed(server, parts(server, "gateway")[0])
    until(lambda: len(parts(server, "gateway")) == 2)
    assert server.head(server.run("nothing"))["job-state"] == "succeeded"


def test_a_second_server_does_not_share_the_port(shared: Server, tmp_path: Path) -> None:
    other = Server(tmp_path, {"server__gateways": 2, "server__port": shared.port, "journal__path": None})
    assert other.wait() == 2
    other.kill()
    assert other.stderr[-1].startswith("headway: cannot listen on server.host '127.0.0.1', server.port ")


def test_readers_of_events_go_on_after_a_deploy(start: Start) -> None:
    server = start(server__gateways=1, journal__path=None)
    told: list[bytes] = []

    def listen() -> None:
        with server.wire() as wire:
            wire.send(request("GET", "/events"))
            while b'"task":"give"' not in b"".join(told):
                told.append(wire.socket.recv(4096))

    reader = threading.Thread(target=listen, daemon=True)
    reader.start()
    until(lambda: told)
    server.deploy()
    until(lambda: b"event: reset" in b"".join(told))
    server.run("give", 1)
    reader.join(PATIENCE_S)
    assert not reader.is_alive()


def test_what_a_deploy_keeps_is_told(start: Start, tmp_path: Path) -> None:
    server = start(server__gateways=1, journal__path=None)
    (tmp_path / "config.yaml").write_text("server: {socket: other.sock}\n")
    server.deploy()
    server.wait_for_line(r"server.socket is other.sock now, but a deploy keeps its socket")


def test_a_folder_with_too_long_a_name_is_told_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    told = headway(tmp_path, "serve", HEADWAY_SERVER__GATEWAYS="1", HEADWAY_SERVER__PORT="0", TMPDIR=str(folder))
    assert told.returncode == 2
    assert re.fullmatch(
        r"headway: server.gateways: no socket can be made in .*: set TMPDIR to another folder\n", told.stderr
    )
    assert [*folder.iterdir()] == []


def test_a_shared_store_has_no_gateways(tmp_path: Path) -> None:
    settings = {"HEADWAY_SERVER__GATEWAYS": "1", "HEADWAY_ENGINE": "valkey://127.0.0.1:1/0"}
    for more in ([], ["--check"]):
        told = headway(tmp_path, "serve", *more, **settings)
        assert told.returncode == 2
        assert "server.gateways: with engine, start more nodes instead" in told.stderr


def test_deploys_that_follow_each_other_leave_the_gateways_of_the_last(start: Start, tmp_path: Path) -> None:
    server = start(server__gateways=2, journal__path=None)
    for base in ("/a", "/b", "/c"):
        (tmp_path / "config.yaml").write_text(f"http: {{base_path: {base}}}\n")
        server.process.send_signal(signal.SIGHUP)
        time.sleep(0.9)
    until(lambda: len(children(server)) == 3 and server.get("/c/readyz").status == 200)
    until(lambda: [server.get("/c/healthz").status for _ in range(12)] == [200] * 12)
    time.sleep(1)
    assert len(children(server)) == 3
    assert {server.get("/b/healthz").status for _ in range(12)} == {404}


def test_a_file_that_was_changed_and_not_deployed_counts_for_no_part(start: Start, tmp_path: Path) -> None:
    server = start(server__gateways=2, journal__path=None)
    for text in ("http: {base_path: /other}\n", "workers: many\n"):
        (tmp_path / "config.yaml").write_text(text)
        gateway = parts(server, "gateway")[0]
        killed(server, gateway)
        until(lambda gone=gateway: len(children(server)) == 3 and gone not in children(server))  # type: ignore[misc]
        until(lambda: [server.get("/readyz").status for _ in range(12)] == [200] * 12)
        engine = engine_of(server)
        killed(server, engine)
        until(lambda gone=engine: len(children(server)) == 3 and gone not in children(server))  # type: ignore[misc]
        wait_for_engine(server)
        assert server.get(server.run("give", 1) + "/result").json == 1


def test_a_server_alone_stays_alone_over_a_deploy(tmp_path: Path) -> None:
    with launch(tmp_path, {"server__gateways": AS_SHIPPED, "journal__path": None}) as server:
        path = server.run("nothing")
        (tmp_path / "config.yaml").write_text("server: {gateways: 1}\n")
        server.deploy()
        server.wait_for_line("server.gateways is 1 now, but a deploy keeps one process")
        assert server.head(path).status == 200
