"""SIGHUP executes the program anew: nobody is refused, nothing acknowledged is lost, and nothing untrue is said."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.end_to_end.process import AS_SHIPPED, OVER, Gate, Server, environment, launch, wait_until
from tests.protocol.wire import PATIENCE_S, Answer, Wire, post, request, submission

pytestmark = pytest.mark.long

# Seconds of load before and after a deploy.
LOAD_S = 0.3
UNREADABLE_MOST_S = 1.0
SHOP = """
import headway
{}

@headway.task
async def {}(payload: object) -> object:
    {}
"""
# What makes the terminal that is stdin its own before it becomes another program.
IN_A_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Client:
    """One that keeps its connection, and comes again where that was closed."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._wire: Wire | None = None
        # Seconds that the slowest answer took, with all it took to get it.
        self.slowest = 0.0
        # Requests that had no answer, because the connection was closed just then.
        self.unanswered = 0

    def ask(self, data: bytes) -> Answer:
        """Ask until there is an answer. Who is refused fails the test."""
        begin = time.monotonic()
        while True:
            if self._wire is None:
                self._wire = self._server.wire()
            try:
                answer = self._wire.ask(data)
            except (AssertionError, ConnectionResetError, BrokenPipeError):
                self.unanswered += 1
                self.close()
                continue
            if answer.headers.get("connection") == "close":
                self.close()
            self.slowest = max(self.slowest, time.monotonic() - begin)
            return answer

    def close(self) -> None:
        """Disconnect."""
        if self._wire is not None:
            self._wire.socket.close()
            self._wire = None


class Load:
    """Clients that submit and poll, each on a connection of its own."""

    def __init__(self, server: Server) -> None:
        self._stopped = threading.Event()
        # What each acknowledged job is to return.
        self.jobs: dict[str, int] = {}
        # Those that were seen to have succeeded.
        self._succeeded: set[str] = set()
        self.refused_for_now = 0
        self.polls = [Client(server) for _ in range(3)]
        self.submits = [Client(server) for _ in range(2)]

    def __repr__(self) -> str:
        unanswered = sum(client.unanswered for client in (*self.polls, *self.submits))
        return (
            f"<Load {len(self.jobs)} jobs, {self.refused_for_now} times 503, {unanswered} requests without an answer>"
        )

    def _submit(self, client: Client, first: int) -> None:
        """Submit jobs that return ``first``, ``first`` + 1 and so on."""
        number = first
        while not self._stopped.wait(0.002):
            answer = client.ask(post(submission("give", number)))
            assert answer.status in (202, 503), answer
            if answer.status == 202:
                self.jobs[answer["location"]] = number
                number += 1
            else:
                assert answer.json["type"] == "urn:headway:problem:draining"
                self.refused_for_now += 1

    def _poll(self, client: Client) -> None:
        """Ask for one job after the other, the newest and any by turns."""
        turn = 0
        while not self._stopped.wait(0.001):
            paths = list(self.jobs)
            if not paths:
                continue
            turn += 1
            path = paths[-1 if turn % 2 else turn % len(paths)]
            had_succeeded = path in self._succeeded
            answer = client.ask(request("HEAD", path))
            assert answer.status == 200 or (answer.status == 202 and not had_succeeded), answer
            if answer.status == 200:
                self._succeeded.add(path)

    def run(self, meanwhile: Callable[[], object]) -> None:
        """Have all of them at it while ``meanwhile`` is called."""
        with ThreadPoolExecutor(5) as threads:
            doing = [threads.submit(self._poll, client) for client in self.polls]
            doing += [threads.submit(self._submit, client, i * 10**6) for i, client in enumerate(self.submits)]
            try:
                time.sleep(LOAD_S)
                meanwhile()
                time.sleep(LOAD_S)
            finally:
                self._stopped.set()
        for client in (*self.polls, *self.submits):
            client.close()
        for one in doing:
            one.result()


def seconds_to_start(folder: Path) -> float:
    """Return how long the program takes to read its settings and task modules right now."""
    begin = time.monotonic()
    command = [sys.executable, "-m", "headway", "serve", "--check"]
    subprocess.run(command, cwd=folder, env=environment({}), stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - begin


@pytest.mark.parametrize("journal", [None, "jobs.db"], ids=["memory", "journal"])
def test_deploy_under_load(start: Start, tmp_path: Path, journal: str | None) -> None:
    server = start(journal__path=journal)
    pid, load = server.process.pid, Load(server)
    load.run(server.deploy)
    assert server.process.pid == pid
    unreadable = max(client.slowest for client in load.polls)
    print(f"unreadable for {unreadable:.2f} s; {load}")
    # A machine that is busy with other things takes its time to start any Python.
    assert unreadable < max(UNREADABLE_MOST_S, 3 * seconds_to_start(tmp_path))
    with server.wire() as wire:
        for path, number in load.jobs.items():
            assert wire.ask(request("HEAD", path)).status in (200, 202)
            assert wire.ask(request("GET", path + "/result", "Prefer: wait=20")).json == number


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Server]:
    """A server with a task module and a file of settings that can be changed."""
    write_shop(tmp_path, "old", "return payload")
    (tmp_path / "config.yaml").write_text("retention: {jobs: 10}\n")
    with launch(tmp_path, {"tasks": ["shop"]}) as server:
        yield server


def write_shop(folder: Path, name: str, body: str) -> None:
    """Declare one task. Each time a line longer, so that no cached bytecode is taken for it."""
    path = folder / "shop.py"
    lines = len(path.read_text().splitlines()) if path.exists() else 0
    path.write_text(SHOP.format("#\n" * lines, name, body))


def test_what_does_not_start_leaves_the_old_one_serving(shop: Server, tmp_path: Path) -> None:
    path = shop.run("old", 5)
    shop.expected_errors.append("not deployed")
    for file, text, fault in (
        ("shop.py", "import no_such_module\n", "tasks: 'shop' cannot be imported: .*no_such_module"),
        ("shop.py", "raise SystemExit(0)\n", "tasks: 'shop' cannot be imported: SystemExit"),
        ("shop.py", "import os\nos._exit(0)\n", r"tasks: 'shop' cannot be imported: os\._exit\(0\)"),
        ("shop.py", "import ctypes\nctypes.CDLL(None)._exit(7)\n", "--check ended with exit code 7"),
        (
            "shop.py",
            "import ctypes\n\nctypes.CDLL(None)._exit(0)\n",
            "--check ended with exit code 0 before its verdict",
        ),
        ("config.yaml", "workers: many\n", "config.yaml: workers: 'many' is not allowed"),
    ):
        (tmp_path / file).write_text(text)
        with shop.wire() as wire:
            assert wire.still_serves()
            assert re.search(f"not deployed, still serving as before: {fault}", shop.deploy())
            assert wire.still_serves()
        assert shop.get("/readyz").status == 200
        assert shop.get(path + "/result").json == 5
        assert shop.get(shop.run("old", 6) + "/result").json == 6


LIFE = """
import pathlib

@headway.lifespan
async def life():
    if pathlib.Path("away").exists():
        raise ConnectionError("the database is away")
    yield
"""
CANNOT_BEGIN = r"the new program cannot begin: .* raised ConnectionError: the database is away\. It tries again in . s"


@pytest.mark.parametrize(("gateways", "journal"), [(0, None), (0, "jobs.db"), (1, None)])
@pytest.mark.parametrize("mended", ["by itself", "by a deploy", "never"])
def test_a_new_program_whose_lifespan_raises_keeps_all_jobs_until_it_begins(
    tmp_path: Path, gateways: int, journal: str | None, mended: str
) -> None:
    write_shop(tmp_path, "old", "return payload")
    waits = bool(gateways or journal)
    own = {
        "tasks": ["shop"],
        "server__gateways": gateways,
        "journal__path": journal and str(tmp_path / journal),
        "drain_linger": 0,
    }
    loses = mended == "never" and waits and not journal
    with launch(tmp_path, own, exit_code=int(loses)) as server:
        ended = server.run("old", 1)
        later = server.submit("old", 2, delay=2) if waits else ""
        server.expected_errors += ["the new program cannot begin", "jobs are lost: they could not begin"]
        (tmp_path / "away").touch()
        with (tmp_path / "shop.py").open("a") as file:
            file.write(LIFE)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_line(CANNOT_BEGIN)
        if not gateways:
            told = server.ask(request("HEAD", ended))
            assert (told.status, "retry-after" in told.headers) == (503, True)
            assert server.get("/readyz").status == 503
        if mended == "never":
            server.signal(signal.SIGTERM)
            assert server.wait() == int(loses)
            return
        if mended == "by itself":
            (tmp_path / "away").unlink()
        else:
            write_shop(tmp_path, "old", "return payload")
            server.process.send_signal(signal.SIGHUP)
        server.wait_for_line("deployed: no")
        assert server.wait_for(ended, *OVER)["job-state"] == "succeeded"
        assert server.get(f"{ended}/result").json == 1
        if later:
            assert server.wait_for(later, *OVER)["job-state"] == "succeeded"
            assert server.get(f"{later}/result").json == 2
        assert server.get(server.run("old", 3) + "/result").json == 3


@pytest.mark.parametrize(("gateways", "journal"), [(0, "jobs.db"), (1, "jobs.db"), (1, None)])
def test_a_program_without_the_task_of_a_job_that_waits_is_not_deployed(
    tmp_path: Path, gateways: int, journal: str | None
) -> None:
    write_shop(tmp_path, "old", "return payload")
    own = {"tasks": ["shop"], "server__gateways": gateways, "journal__path": journal and str(tmp_path / journal)}
    with launch(tmp_path, own) as server:
        path = server.submit("old", 5, delay=1000)
        server.expected_errors.append("not deployed")
        write_shop(tmp_path, "new", "return payload")
        assert "not deployed, still serving as before: tasks: no module declares 'old' any more" in server.deploy()
        assert server.head(path)["job-state"] == "scheduled"
        server.delete(path)
        assert "not deployed" not in server.deploy()
        assert server.get(server.run("new", 6) + "/result").json == 6


def test_new_code_and_new_settings(shop: Server, tmp_path: Path) -> None:
    """Each status is told as before or, where it is not kept any more, as 410; and the next id is the next."""
    kept, forgotten, expired = shop.run("old", 1), shop.run("old", 2), ""
    shop.delete(forgotten)
    told = [shop.get(kept).json, shop.get(kept + "/result").raw.partition(b"\r\n\r\n")[2]]
    for settings, name in (
        ("{retention: {jobs: 10}, workers: 5}", "old"),
        ("{retention: {jobs: 100}, workers: 50, queue: {size: 20000}}", "new"),
        ("{retention: {jobs: 9}, workers: 1, queue: {size: 5}}", "newest"),
    ):
        (tmp_path / "config.yaml").write_text(settings)
        write_shop(tmp_path, name, f"return '{name}'")
        shop.deploy()
        assert [shop.get(kept).json, shop.get(kept + "/result").raw.partition(b"\r\n\r\n")[2]] == told
        gone = shop.get(forgotten + "/result")
        assert (gone.status, gone["job-state"]) == (410, "succeeded")
        path = shop.run(name)
        assert shop.get(path + "/result").json == name
    # Three jobs were run since, and two are to be kept.
    (tmp_path / "config.yaml").write_text("retention: {jobs: 2}")
    shop.deploy()
    expired, kept = kept, path
    assert (shop.head(expired).status, shop.head(expired)["job-state"]) == (410, "expired")
    assert shop.head(kept).status == 200
    made_up = expired[:-1] + ("0" if expired[-1] != "0" else "1")
    assert shop.head(made_up).status == 404
    assert shop.stats()["jobs"]["succeeded"] == 5
    assert int(shop.run("newest")[14:26], 16) == int(path[14:26], 16) + 1
    assert shop.ask(post(submission("old"))).json["type"] == "urn:headway:problem:unknown-task"


def test_failed_and_cancelled_jobs_and_a_key_are_known_afterwards(start: Start, gate: Gate) -> None:
    server = start(jobs__backoff=0.01)
    keyed = post(submission("count"), 'Idempotency-Key: "order-7"')
    path = server.ask(keyed)["location"]
    failed = server.run("stubborn_failure", "of no use", timeout=7)
    cancelled = server.submit("until_file", gate.path)
    server.delete(cancelled)
    said = server.get(failed).json
    server.deploy()
    assert server.get(failed).json == said
    assert server.head(cancelled)["job-state"] == "cancelled"
    again = server.ask(request("POST", failed + "/retry", body=b""))
    assert again.status == 202
    assert server.wait_for(again["location"], "failed")["job-attempt"] == "4"
    again = server.ask(keyed)
    assert (again["location"], again["idempotency-replayed"]) == (path, "true")


def test_jobs_that_are_not_over_in_time_keep_the_old_one_serving(start: Start, gate: Gate) -> None:
    server = start(drain_timeout=0.3, workers=1)
    server.expected_errors.append("not deployed")
    running, queued = server.submit("until_file", gate.path), server.submit("give", 5)
    server.wait_for(running, "running")
    assert "2 jobs did not finish within drain_timeout" in server.deploy()
    assert [server.head(path)["job-state"] for path in (running, queued)] == ["running", "queued"]
    later = server.submit("give", 6)
    gate.open()
    assert [server.wait_for(path, *OVER).status for path in (running, queued, later)] == [200, 200, 200]
    server.deploy()
    assert [server.get(path + "/result").json for path in (running, queued, later)] == [gate.path, 5, 6]


def test_statuses_can_be_read_while_jobs_are_waited_for(start: Start, gate: Gate) -> None:
    server = start()
    path = server.submit("until_file", gate.path)
    with server.wire() as polls, server.wire() as waiting:
        waiting.send(request("GET", path, "Prefer: wait=30"))
        server.process.send_signal(signal.SIGHUP)
        # A drain releases who waits.
        assert waiting.read().json["state"] == "running"
        refused = server.ask(post(submission("nothing")))
        assert (refused.status, refused["connection"]) == (503, "close")
        assert int(refused["retry-after"]) >= 1
        assert polls.ask(request("GET", "/readyz")).body == b"draining\n"
        assert polls.ask(request("HEAD", path))["job-state"] == "running"
        gate.open()
        # At the end each answer says that it is the last, and a connection that is idle ends without one.
        last = wait_until(lambda: polls.ask(request("HEAD", path)), lambda said: "connection" in said.headers)
        assert (last["connection"], last["job-state"]) == ("close", "succeeded")
        polls.read_end()
        waiting.read_end()
    server.wait_for(path, "succeeded")
    server.wait_for_line("deployed:")
    assert server.get(path + "/result").json == gate.path
    assert server.stats()["draining"] is False


LOOK = """
import os, subprocess
import headway

def look() -> list[str]:
    run = lambda *command: subprocess.run(command, close_fds=False, capture_output=True, text=True).stdout
    return [run("env"), run("ls", "-l", "/proc/self/fd"), repr(os.environ)]

AT_IMPORT = look()

@headway.task
def in_thread(_): return AT_IMPORT + look()

@headway.task(run_in="process")
def in_process(_): return AT_IMPORT + look()
"""


def files_of(pid: int) -> str:
    """What the files of a process are; nothing where one was closed meanwhile."""
    try:
        return " ".join(os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:
        return ""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_tasks_see_nothing_of_what_goes_over_and_processes_end(start: Start, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(LOOK)
    server = start(tasks=["shop"])
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    before = wait_until(lambda: children.read_text().split(), lambda found: len(found) == 2)
    server.deploy()
    for task in ("in_thread", "in_process"):
        seen = " ".join(server.get(server.run(task) + "/result").json)
        assert "SHELL" in seen or "PATH" in seen
        assert not re.search("headway-state|headway-board|HANDOVER|socket:", seen)
    assert not any(Path(f"/proc/{pid}").exists() for pid in before)
    # Also none that has ended and was not reaped.
    assert len(children.read_text().split()) == 2
    own = wait_until(lambda: files_of(server.process.pid), bool)
    assert "headway-board" in own
    assert "headway-state" not in own


def test_a_link_to_the_release_is_followed_anew(tmp_path: Path) -> None:
    for release in ("one", "two"):
        (tmp_path / release).mkdir()
        write_shop(tmp_path / release, release, "return payload")
    (tmp_path / "one" / "config.yaml").write_text("server: {port: 0}")
    (tmp_path / "two" / "config.yaml").write_text("server: {port: 1}")
    current = tmp_path / "current"
    current.symlink_to("one")
    server = Server(current, {"tasks": ["shop"], "drain_linger": 0}, before=["env", f"PWD={current}"])
    try:
        server.wait_until_serving()
        server.run("one")
        current.unlink()
        current.symlink_to("two")
        server.deploy()
        server.run("two")
        # The one setting that asks for a restart says so.
        assert "server.port is 1 now, but a deploy keeps its socket" in server.wait_for_line("server.port")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    finally:
        server.kill()


# With a journal.


def test_jobs_that_wait_are_left_to_the_new_program(start: Start, gate: Gate, tmp_path: Path) -> None:
    """Only what runs is waited for; ids, results and states are those of before."""
    server = start(journal__path=str(tmp_path / "jobs.db"), workers=1)
    done, running = server.run("give", 1), server.submit("until_file", gate.path)
    waiting, scheduled = server.submit("give", 2), server.submit("give", 3, delay=1000)
    server.wait_for(running, "running")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_line("deploying: 3 jobs")
    with server.wire() as wire:
        states = [wire.ask(request("HEAD", path))["job-state"] for path in (done, running, waiting, scheduled)]
        assert states == ["succeeded", "running", "queued", "scheduled"]
    gate.open()
    server.wait_for_line("deployed:")
    assert server.wait_for(waiting, *OVER)["job-state"] == "succeeded"
    assert server.head(scheduled)["job-state"] == "scheduled"
    assert [server.get(path + "/result").json for path in (done, running, waiting)] == [1, gate.path, 2]
    assert server.run("give", 4) not in (done, running, waiting, scheduled)


def test_what_still_runs_is_begun_again_by_the_new_one_with_a_journal(start: Start, gate: Gate, tmp_path: Path) -> None:
    server = start(journal__path=str(tmp_path / "jobs.db"), workers=1, drain_timeout=0.2)
    running, waiting = server.submit("until_file", gate.path), server.submit("give", 2)
    server.wait_for(running, "running")
    assert "no client was answered" in server.deploy()
    gate.open()
    assert server.wait_for(running, *OVER).status == 200
    # An attempt that a deploy interrupts does not count.
    assert server.get(running).json["attempt"] == 1
    assert server.wait_for(waiting, *OVER).status == 200


def test_another_journal_is_refused(tmp_path: Path) -> None:
    """Also none where there was one, and one where there was none: ids of before would be unknown."""
    settings = ("{journal: {path: null}}", "{journal: {path: one.db}}", "{journal: {path: two.db}}")
    for before, others in zip(settings, (settings[1:2], settings), strict=False):
        folder = tmp_path / before.strip("{}")[-6:-3]
        folder.mkdir(exist_ok=True)
        (folder / "config.yaml").write_text(before)
        with launch(folder, {"journal__path": AS_SHIPPED}) as server:
            server.expected_errors.append("not deployed")
            path = server.run("give", 1)
            for after in others:
                (folder / "config.yaml").write_text(after)
                refused = "journal.path: is another journal now" in server.deploy()
                assert refused == (after != before)
                assert server.head(path).status == 200


# Signals.


def test_sighups_in_a_row(start: Start) -> None:
    server = start()
    path = server.run("give", 5)
    for _ in range(4):
        server.process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
    server.wait_for_line("deployed:")
    assert server.get(path + "/result").json == 5
    server.deploy()
    assert server.get(path + "/result").json == 5


@pytest.mark.parametrize("delay_s", [0, 0.6])
def test_sigterm_after_sighup_ends(tmp_path: Path, delay_s: float) -> None:
    """Whenever it comes: while the new program is looked at, while it starts, or in between."""
    server = Server(tmp_path, {"server__port": 0, "drain_linger": 0})
    try:
        server.wait_until_serving()
        server.signal(signal.SIGHUP)
        time.sleep(delay_s)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert server.errors == []
        assert server.stderr == []
    finally:
        server.kill()


def test_sigterm_while_jobs_are_waited_for_drains(start: Start, gate: Gate) -> None:
    server = start()
    path = server.submit("until_file", gate.path)
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_line("deploying: 1 jobs")
    server.signal(signal.SIGTERM)
    server.wait_for_line("draining: 1 jobs")
    # No second signal, and nothing that is lost.
    server.process.send_signal(signal.SIGHUP)
    assert server.head(path)["job-state"] == "running"
    gate.open()
    assert server.wait() == 0


def test_a_terminal_that_goes_away_is_an_end(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL, sys.executable, "-m", "headway", "serve"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=tmp_path,
        env=environment({"server__port": 0}),
    )
    os.close(theirs)
    said = b""
    while b"serving http" not in said:
        said += os.read(ours, 1 << 16)
    os.close(ours)
    try:
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()


def test_nohup_is_respected(tmp_path: Path) -> None:
    server = Server(tmp_path, {"server__port": 0, "drain_linger": 0}, before=["nohup"])
    try:
        server.wait_until_serving()
        server.process.send_signal(signal.SIGHUP)
        assert server.get("/healthz").status == 200
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert not any("deploy" in line for line in server.said)
    finally:
        server.kill()
