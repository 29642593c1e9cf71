"""The queues that take part, and whether each is installed."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.measure import ROOT

# arq wants an older redis-py than Celery does; it may lie in a folder of its own.
ARQ_FOLDER = ROOT / "tmp" / "bench-arq"


@dataclass(frozen=True, slots=True)
class Entry:
    """A queue: the name of its file less ``_queue``, its packages, and a folder to look for them in."""

    name: str
    packages: Sequence[str]
    install: str = "pip install --group bench-queues"
    folder: Path | None = None

    @property
    def env(self) -> dict[str, str]:
        """Our environment, in which its packages and this project are found."""
        path = [str(self.folder)] if self.folder else []
        return os.environ | {"PYTHONPATH": os.pathsep.join([*path, str(ROOT), os.environ.get("PYTHONPATH", "")])}

    @property
    def missing(self) -> str:
        """What is not installed; empty where nothing is missing."""
        return ", ".join(package for package in self.packages if not self._found(package))

    @property
    def version(self) -> str:
        """Name and version of the package."""
        return f"{self.packages[0]} {self._found(self.packages[0])}"

    def _found(self, package: str) -> str:
        """The version that is installed; empty where there is none."""
        path = [str(self.folder)] if self.folder else []
        found = importlib.metadata.distributions(name=package, path=[*path, *sys.path])
        return next((one.version for one in found), "")


QUEUES = (
    Entry("headway", ["headway"]),
    Entry("celery", ["celery", "redis"]),
    Entry("rq", ["rq"]),
    Entry("arq", ["arq"], f"pip install --target {ARQ_FOLDER.relative_to(ROOT)} --group bench-arq", ARQ_FOLDER),
    Entry("dramatiq", ["dramatiq", "redis"]),
    Entry("huey", ["huey", "redis"]),
    Entry("saq", ["saq", "redis"]),
    Entry("taskiq", ["taskiq", "taskiq-redis"]),
)
# Two that keep their jobs in streams, for the bench of the cluster.
STREAMS = (
    Entry("docket", ["pydocket"], "pip install --group bench-cluster"),
    Entry("streaq", ["streaq"], "pip install --group bench-cluster"),
)
