"""The faults of a soak, one at a time, each with the errors that clients may see of it.

A fault lasts until the server is ready again. An error in that time, or GRACE_S later, is explained if it stands in
EXPLAINS. Whatever a fault does, it loses no acknowledged job.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.measure import HOST
from bench.soak.crowd import Trouble
from bench.soak.site import Site
from tests.end_to_end.process import children, wait_until
from tests.small_disk import fill

# Errors that are on their way while a fault ends.
GRACE_S = 2.0
# Connections of clients that send a byte now and then.
DRIPPING = 50
DRIP_S = 0.25
# The errors that each fault may cause, by their beginnings.
EXPLAINS: dict[str, tuple[str, ...]] = {
    "worker killed": (),
    "dripping clients": (),
    "writer killed": (),
    # Ends of jobs wait for room too, so the queue may fill.
    "disk full": ("503 journal-full", "429 queue-full"),
    # While it drains, and while the next program reads the journal. A connection may end between two requests.
    "deploy": (
        "503 draining", "503 recovering", "503 (HEAD)", "closed", "ConnectionReset", "BrokenPipe", "stream cut",
    ),
    "store restarted": ("503 engine-away", "503 (HEAD)"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Injected:
    """A fault that was injected, from its begin until the server was ready again, of ``time.monotonic``."""

    what: str
    begun: float
    ended: float

    def explains(self, trouble: Trouble) -> bool:
        """Whether a request met this fault, with an error that the fault may cause."""
        is_then = trouble.begun < self.ended + GRACE_S and self.begun < trouble.ended
        return is_then and trouble.what.startswith(EXPLAINS[self.what])


def unexplained(troubles: Sequence[Trouble], injected: Sequence[Injected]) -> list[Trouble]:
    """Return the errors that no fault explains."""
    return [trouble for trouble in troubles if not any(fault.explains(trouble) for fault in injected)]


@dataclass
class Injector:
    """Does harm to a site, one fault after the other, and deploys it after each of ``deploys_s``."""

    site: Site
    deploys_s: Sequence[float]
    # The longest of a full disk, of dripping clients, and without a store.
    lasting_s: float
    injected: list[Injected] = field(default_factory=list)
    # Faults that could not be healed, or not injected as they should.
    failed: list[str] = field(default_factory=list)
    # The fault that is under way, empty if there is none.
    present: str = ""
    deploys: int = 0

    def __post_init__(self) -> None:
        """Choose the faults that this site can have."""
        self._next = 0
        self._deploys_at = [time.monotonic() + seconds for seconds in self.deploys_s]
        self.faults: list[tuple[str, Callable[[], None]]] = [
            ("worker killed", self._kill_worker),
            ("dripping clients", self._drip),
        ]
        if self.site.engine == "journal":
            self.faults.append(("writer killed", self._kill_writer))
        if self.site.disk is not None:
            self.faults.append(("disk full", self._fill_disk))
        if self.site.store is not None:
            self.faults.append(("store restarted", self._restart_store))

    def inject(self) -> None:
        """Inject the next fault, and wait until the server is ready again."""
        if self._deploys_at and time.monotonic() >= self._deploys_at[0]:
            del self._deploys_at[0]
            what, act = "deploy", self._deploy
        else:
            what, act = self.faults[self._next % len(self.faults)]
            self._next += 1
        begun = time.monotonic()
        self.present = what
        try:
            act()
            wait_until(self._is_ready, bool)
        except (AssertionError, OSError, ValueError) as error:
            self.failed.append(f"{what}: {str(error)[:300]}")
        self.injected.append(Injected(what, begun, time.monotonic()))
        self.present = ""

    def _is_ready(self) -> bool:
        try:
            return self.site.server.get("/readyz").status == 200
        except (OSError, AssertionError):
            return False

    def _child(self, module: bytes) -> int:
        """Return a child of the server that runs a module; 0 where there is none just now."""
        found = [0]
        for pid in children(self.site.server):
            with suppress(OSError):
                if module in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return random.choice(found[1:] or found)

    def _kill(self, module: bytes) -> None:
        """Kill such a child, and wait for another one."""
        pid = wait_until(lambda: self._child(module), bool)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self._child(module), lambda found: found not in (0, pid))

    def _kill_worker(self) -> None:
        self._kill(b"processes.child")

    def _kill_writer(self) -> None:
        self._kill(b"journal.writer")

    def _fill_disk(self) -> None:
        assert self.site.disk is not None
        ballast = fill(self.site.disk)
        try:
            time.sleep(self.lasting_s)
        finally:
            ballast.unlink()

    def _restart_store(self) -> None:
        assert self.site.store is not None
        self.site.store.kill()
        # Shorter than the time after which a node is taken for dead.
        time.sleep(min(2.0, self.lasting_s))
        self.site.store.start()

    def _deploy(self) -> None:
        said = self.site.server.deploy()
        assert "not deployed" not in said, said
        self.deploys += 1
        wait_until(self._is_ready, bool)
        self.site.begin_threads()

    def _drip(self) -> None:
        """Send heads of requests byte by byte: the server ends those that take longer than ``timeouts.head``."""
        port, head = self.site.server.port, b"GET /stats HTTP/1.1\r\nHost: soak\r\nX: " + b"x" * 1000
        with ExitStack() as stack:
            clients = [stack.enter_context(socket.create_connection((HOST, port))) for _ in range(DRIPPING)]
            end = time.monotonic() + self.lasting_s
            for at in range(len(head)):
                for client in clients:
                    with suppress(OSError):
                        client.send(head[at : at + 1])
                if time.monotonic() > end:
                    return
                time.sleep(DRIP_S)
