"""The queues that take part, how each is run, and whether each is installed.

Each runs as its documentation has it for many jobs, ten at a time, and keeps states so that they can be asked for.
Where its client has a call for many jobs, that call is measured as well.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.measure import ROOT

# They want older releases of redis-py than the others do, and lie in folders of their own.
ARQ_FOLDER = ROOT / "tmp" / "bench-arq"
CELERY_FOLDER = ROOT / "tmp" / "bench-celery"
# Seam: tests put packages of their own there.
BUNQUEUE_FOLDER = ROOT / "tmp" / "bench-bunqueue" / "node_modules"
# The runtime: a package of npm with the program in it.
BUN = f"@oven/bun-linux-{'x64' if platform.machine() == 'x86_64' else 'aarch64'}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A queue: the name of its file less ``_queue``, its packages, and a folder to look for them in."""

    name: str
    packages: Sequence[str]
    # Where its figures depend on more than WORKERS, or a call for many jobs is used.
    how: str = ""
    install: str = "make bench-queues"
    folder: Path | None = None
    # Packages of npm, the queue itself first.
    npm: Sequence[str] = ()
    on_valkey: bool = True

    @property
    def env(self) -> dict[str, str]:
        """Our environment, in which its packages and this project are found."""
        path = [str(self.folder)] if self.folder else []
        return os.environ | {"PYTHONPATH": os.pathsep.join([*path, str(ROOT), os.environ.get("PYTHONPATH", "")])}

    @property
    def missing(self) -> str:
        """What is not installed; empty where nothing is missing."""
        absent = [package for package in self.packages if not self._found(package)]
        return ", ".join([*absent, *(package for package in self.npm if not _found_by_npm(package))])

    @property
    def version(self) -> str:
        """Name and version of the package."""
        if self.npm:
            return ", ".join(f"{package} {_found_by_npm(package)}" for package in self.npm)
        return f"{self.packages[0]} {self._found(self.packages[0])}"

    def _found(self, package: str) -> str:
        """The version that is installed; empty where there is none."""
        path = [str(self.folder)] if self.folder else []
        found = importlib.metadata.distributions(name=package, path=[*path, *sys.path])
        return next((one.version for one in found), "")


def _found_by_npm(package: str) -> str:
    """The version that is installed; empty where there is none."""
    manifest = BUNQUEUE_FOLDER / package / "package.json"
    return str(json.loads(manifest.read_text())["version"]) if manifest.exists() else ""


QUEUES = (
    Entry(
        "headway",
        ["headway"],
        "batches: POST /batches; on disk: a journal with sync: full, its default",
        on_valkey=False,
    ),
    Entry("celery", ["celery", "redis"], folder=CELERY_FOLDER),
    Entry("rq", ["rq"], "batches: enqueue_many; a fork for each job is its default"),
    Entry("arq", ["arq"], "looks for jobs each 0.5 s, its default", folder=ARQ_FOLDER),
    Entry("dramatiq", ["dramatiq", "redis"]),
    Entry("huey", ["huey", "redis"]),
    Entry("saq", ["saq", "redis"], folder=CELERY_FOLDER),
    Entry("taskiq", ["taskiq", "taskiq-redis"]),
    Entry(
        "docket",
        ["pydocket"],
        "batches: add_many, which sends one pipeline; with all workers busy it looks again after 100 ms, its default, "
        "so ten do about 100 jobs/s; its documentation shows 20 to 50 at a time",
    ),
    Entry(
        "streaq",
        ["streaq"],
        "batches: enqueue_many, which sends one pipeline; fetches as many more as run, its default",
    ),
    Entry(
        "bunqueue",
        ["bunqueue-client"],
        "server and worker in Bun, since they do not run on Node, the client in Python; batches: add_bulk; the worker "
        "fetches up to 100 jobs at once and waits 5 s for the next; on disk: SQLite and durable: true for each job. "
        "That is its safest, and less than the others do: synchronous is NORMAL in its code, so a commit is not synced",
        npm=["bunqueue", BUN],
        on_valkey=False,
    ),
)
