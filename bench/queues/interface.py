"""What a queue has to offer to take part; each file named after a queue has one class, ``Adapter``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from bench.process import Process
from bench.queues import valkey

PORT_VARIABLE = "BENCH_QUEUES_PORT"
WORKERS_VARIABLE = "BENCH_QUEUES_WORKERS"
FOLDER_VARIABLE = "BENCH_QUEUES_FOLDER"
# Jobs at a time.
WORKERS = int(os.environ.get(WORKERS_VARIABLE, "10"))
# Longer than any run: what is over is kept.
KEEP_S = 86_400

Handle = TypeVar("Handle")


def port() -> int:
    """Return the port of Valkey, or of Headway itself."""
    return int(os.environ.get(PORT_VARIABLE, "9200"))


def url() -> str:
    """Return the URL of Valkey."""
    return f"redis://127.0.0.1:{port()}/0"


def kept_in() -> Path | None:
    """Return the folder in which each acknowledged job is kept on disk; None where jobs are in memory."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return Path(folder) if folder else None


class Queue(Generic[Handle]):
    """A queue with its workers."""

    # What the workers are, in words.
    workers: ClassVar[str]
    # Whether there is a Valkey to it.
    uses_valkey: ClassVar[bool] = True
    # Whether its client blocks: submitters are threads then.
    blocks: ClassVar[bool] = False
    # Whether its client has a call for many jobs at once.
    batches: ClassVar[bool] = False

    def server(self, folder: Path) -> Process | None:
        """Return the server that holds the jobs; None where the workers are part of it."""
        return valkey.process(port(), folder, durable=kept_in() is not None)

    def worker_argv(self) -> Sequence[str]:
        """Return the command that runs WORKERS jobs at a time."""
        raise NotImplementedError

    def worker_env(self) -> dict[str, str]:
        """Return variables for that command."""
        return {}

    async def open(self) -> None:
        """Connect."""

    async def enqueue(self, task: str, sent: float) -> Handle:
        """Enqueue ``noop`` or ``nap`` and return what its state can be asked with."""
        raise NotImplementedError

    async def enqueue_many(self, task: str, sent: Sequence[float]) -> Sequence[Handle]:
        """Enqueue so many jobs in one call, where ``batches`` says that there is one."""
        raise NotImplementedError

    async def is_over(self, handle: Handle) -> bool:
        """Ask for the state of a job, as a client of this queue does."""
        raise NotImplementedError

    async def close(self) -> None:
        """Disconnect."""
