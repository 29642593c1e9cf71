"""What a queue has to offer to take part; each file named after a queue has one class, ``Adapter``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

PORT_VARIABLE = "BENCH_QUEUES_PORT"
WORKERS_VARIABLE = "BENCH_QUEUES_WORKERS"
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


class Queue(Generic[Handle]):
    """A queue with its workers."""

    # What the workers are, in words.
    workers: ClassVar[str]
    # Whether there is a Valkey to it.
    uses_valkey: ClassVar[bool] = True
    # Whether its client blocks: submitters are threads then.
    blocks: ClassVar[bool] = False

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

    async def is_over(self, handle: Handle) -> bool:
        """Ask for the state of a job, as a client of this queue does."""
        raise NotImplementedError

    async def close(self) -> None:
        """Disconnect."""
