"""The power goes: with ``journal.sync: full`` nothing acknowledged is lost, with ``normal`` the loss is told."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.core.journal.forgetful_disk import lose_power
from tests.end_to_end.crash import CLIENTS, Acknowledged, Client, each, free_port
from tests.end_to_end.process import environment
from tests.protocol.wire import PATIENCE_S, Wire, post, request, submission

pytestmark = [pytest.mark.long, pytest.mark.skipif(sys.platform != "linux", reason="a sync is seen in /proc")]
PROGRAM = Path(__file__).parent / "forgetful_server.py"
ROUNDS = int(os.environ.get("ROUNDS", "2"))
# So large that the log is copied into the file now and then.
LARGE = "x" * 60_000


class Outage:
    """A machine whose power fails: a server, its folder, and a disk."""

    def __init__(self, root: Path, sync: str) -> None:
        self._root = root
        self._sync = sync
        self._outages = 0
        self.port = free_port()
        self.folder = root / "0"
        self.folder.mkdir()
        self.log = ""

    def start(self) -> None:
        """Switch it on, with a disk that is as it is found."""
        self._disk = self._root / f"disk-{self._outages}"
        self._disk.mkdir()
        names = {entry.name: entry.inode() for entry in os.scandir(self.folder)}
        for name, inode in names.items():
            (self._disk / str(inode)).write_bytes((self.folder / name).read_bytes())
        (self._disk / "names").write_text(str(names).replace("'", '"'))
        settings = {
            "server__port": self.port,
            "tasks": ["examples.tasks"],
            "journal__path": str(self.folder / "journal.db"),
            "journal__sync": self._sync,
            "retention__jobs": 500_000,
        }
        self._said = (self._root / "said").open("w+b")
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            env=environment(settings) | {"DISK": str(self._disk)},
            stdout=self._said,
            start_new_session=True,
        )
        deadline = time.monotonic() + PATIENCE_S
        while not self._is_ready():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.01)

    def said(self) -> str:
        """What it has logged since the start."""
        return (self._root / "said").read_text()

    def _is_ready(self) -> bool:
        try:
            with Wire(self.port) as wire:
                return wire.ask(request("GET", "/readyz")).status == 200
        except (OSError, AssertionError):
            return False

    def lose_power(self, how: str) -> None:
        """End all at once, and find what the disk has kept."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._said.close()
        self._outages += 1
        before, self.folder = self.folder, self._root / str(self._outages)
        lose_power(self._disk, before, self.folder, how)

    def end(self) -> None:
        """Switch it off for good."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._said.close()


class Customer(Client):
    """Submits small and large jobs, and remembers which it has seen to be over."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.over: set[str] = set()

    def submit(self, wire: Wire, number: int) -> None:
        """Submit one under a key, and look at the one before."""
        before = self.acknowledged[-1].path if self.acknowledged else ""
        payload = [number, LARGE if number % 3 == 0 else ""]
        self.take(
            wire.ask(post(submission("echo", payload), f"Idempotency-Key: k-{number}")), number, key=f"k-{number}"
        )
        if before and wire.ask(request("HEAD", before)).headers.get("job-state") == "succeeded":
            self.over.add(before)


def load_for(outage: Outage, seconds: float) -> list[Customer]:
    """Have clients submit for so long; they end with the power."""
    clients = [Customer(outage.port) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    time.sleep(seconds)
    return clients


def check(outage: Outage, jobs: dict[str, Acknowledged], over: set[str]) -> None:
    """See that all is there: those that were over still are, and the others end."""
    with Wire(outage.port) as wire:
        said = {path: answer.headers.get("job-state") for path, answer in each(list(over), wire, method="HEAD")}
        assert [path for path, state in said.items() if state != "succeeded"] == []
        deadline = time.monotonic() + PATIENCE_S
        while any(wire.ask(request("GET", "/stats")).json["jobs"][state] for state in ("queued", "running")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        results = dict(each(list(jobs), wire, "{}/result"))
        wrong = [
            path for path, job in jobs.items() if results[path].status != 200 or results[path].json[0] != job.number
        ]
        assert wrong == []
        for key, answer in each([job.key for job in jobs.values()], wire, "/jobs/{}", method="HEAD"):
            assert answer.status == 200, key


@pytest.mark.parametrize("how", ["synced", "mixed", "torn"])
def test_with_sync_full_nothing_acknowledged_goes_with_the_power(tmp_path: Path, how: str) -> None:
    outage = Outage(tmp_path, "full")
    jobs: dict[str, Acknowledged] = {}
    over: set[str] = set()
    outage.start()
    try:
        for _ in range(ROUNDS):
            clients = load_for(outage, random.uniform(0.1, 0.5))
            outage.lose_power(how)
            for client in clients:
                client.join(PATIENCE_S)
                assert not {job.path for job in client.acknowledged} & jobs.keys(), "an id was given twice"
                jobs |= {job.path: job for job in client.acknowledged}
                over |= client.over
            outage.start()
            check(outage, jobs, over)
    finally:
        outage.end()
    assert jobs
    assert over


def test_with_sync_normal_a_loss_is_told_and_what_is_lost_is_not_told_to_be_there(tmp_path: Path) -> None:
    """The mark has come to the disk and the log has not: the kernel may write the one and not the other."""
    outage = Outage(tmp_path, "normal")
    outage.start()
    try:
        jobs: dict[str, int] = {}
        with Wire(outage.port) as wire:
            # Too few for the log to be copied, and so synced, meanwhile.
            for number in range(20):
                answer = wire.ask(post(submission("echo", [number])))
                assert answer.status == 202
                jobs[answer["location"]] = number
        last = (outage.folder / "journal.db-mark").read_bytes()
        outage.lose_power("synced")
        (outage.folder / "journal.db-mark").write_bytes(last)
        outage.start()
        assert "acknowledged commits are missing" in outage.said()
        with Wire(outage.port) as wire:
            said = {path: answer.status for path, answer in each(list(jobs), wire, method="HEAD")}
            # What was not synced is gone, and told from what never was; what is there is what it was.
            assert 410 in said.values()
            assert set(said.values()) <= {200, 202, 410}
            there = [path for path, status in said.items() if status == 200]
            for path, answer in each(there, wire, "{}/result"):
                assert (answer.status, answer.json[0]) == (200, jobs[path])
            new = wire.ask(post(submission("echo", 1)))
            assert new.status == 202
            assert new["location"] not in jobs
    finally:
        outage.end()
