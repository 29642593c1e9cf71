"""The server of a soak: its engine, its disk or store, and bounds so small that they are reached in the warm-up."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.end_to_end.process import Server, wait_until
from tests.protocol.wire import request, submission
from tests.small_disk import mounted
from tests.valkey_servers import StoreServer, serving

ENGINES = ("journal", "memory", "valkey")
DISK_MIB = 160
WORKERS = 8
TASKS = ["tests.end_to_end.crash_tasks", "bench.soak.tasks", "examples.tasks"]
# What is kept of finished jobs is full after a minute or two, and memory is flat from there on.
SETTINGS: dict[str, object] = {
    "server__port": 0,
    "tasks": TASKS,
    "workers": WORKERS,
    "retention__jobs": 3000,
    "retention__seconds": 3600,
    "retention__failed": {"jobs": 300, "seconds": 3600},
    "retention__cancelled": {"jobs": 300, "seconds": 3600},
    "idempotency__keys": 150,
    "queue__size": 500,
    "audit__kept": 500,
    "results__max_bytes": 2 << 20,
    "results__log_max_bytes": 1 << 20,
    "attempts__max_bytes": 200_000,
    "events__kept": 1000,
    "jobs__backoff": 0.2,
    "drain_timeout": 10,
    "drain_linger": 0,
    "timeouts__head": 5,
}


@dataclass(frozen=True, slots=True)
class Site:
    """A server that serves, and what stands under it."""

    engine: str
    server: Server
    # The small disk of the journal, and the store of nodes: where there are any.
    disk: Path | None = None
    store: StoreServer | None = None

    def begin_threads(self) -> None:
        """Keep all workers busy for a moment. A thread that has begun stays, so no other begins later."""
        rests = b",".join([submission("rest_in_thread", 0.3)] * 2 * WORKERS)
        batch = request("POST", "/batches", "Content-Type: application/json", body=b"[%b]" % rests)
        path = self.server.ask(batch)["location"]
        with self.server.wire() as wire:
            wait_until(lambda: wire.ask(request("HEAD", path)).status, lambda status: status == 200)


@contextmanager
def running_site(engine: str, settings: dict[str, object] | None = None) -> Iterator[Site]:
    """Serve on an engine until the end of the block, with ``settings`` in place of those of a soak."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headway-soak-")))
        own: dict[str, object] = {}
        disk, store = None, None
        if engine == "valkey":
            store = stack.enter_context(serving(folder / "store", appendonly="yes", appendfsync="always"))
            own["engine"] = store.url
        elif engine == "journal":
            disk = _disk(stack, folder / "disk")
            own["journal__path"] = str((disk or folder) / "journal.db")
        # By a command it is no copy of a Python that the tests have.
        server = Server(folder, SETTINGS | own | (settings or {}), command=[sys.executable, "-m", "headway"])
        stack.callback(server.kill)
        server.wait_until_serving()
        yield Site(engine, server, disk, store)


def _disk(stack: ExitStack, folder: Path) -> Path | None:
    """Mount the small disk; None for a user who may not."""
    try:
        return stack.enter_context(mounted(folder, DISK_MIB))
    except PermissionError:
        folder.rmdir()
        return None
