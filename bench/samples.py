"""The samples of a server (bench/sampled.py): for whom it worked, and in which package.

A sample counts for the callback that the loop had called: *HTTP* if that is one of a connection, *workers* if it is an
attempt, or a task or timer of one, and *rest* otherwise. So what the engine does for a request is HTTP's.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

# A stack, outermost function first, as ``module:function``; and how often it was seen.
Samples = list[tuple[Sequence[str], int]]

HTTP, WORKERS, REST = "HTTP", "workers", "rest"
PARTS = (HTTP, WORKERS, REST)
LOOP = "headway.protocol.process.loop"
OF_HTTP = (
    *("headway.protocol.http", "headway.protocol.api", "headway.protocol.access"),
    *("headway.protocol.process.acceptor", "headway.protocol.process.entry"),
)
OF_WORKERS = ("headway.core.work", "headway.protocol.process.timers")
OURS = "headway."


def read(path: Path) -> Samples:
    """Return the samples in a file, each stack from the callback of the loop on."""
    return [(_from_callback(stack), count) for stack, count in json.loads(path.read_text())]


def _from_callback(stack: Sequence[str]) -> Sequence[str]:
    begin = max((place for place, frame in enumerate(stack) if _module(frame) == LOOP), default=-1)
    return stack[begin + 1 :]


def _module(frame: str) -> str:
    return frame.partition(":")[0]


def part(stack: Sequence[str]) -> str:
    """Return for whom the server worked."""
    module = _module(stack[0]) if stack else OURS
    if module.startswith(OF_HTTP):
        return HTTP
    # A callback that is not ours is a timer or a task of a job.
    return WORKERS if module.startswith(OF_WORKERS) or not module.startswith(OURS) else REST


def parts(samples: Samples) -> dict[str, float]:
    """Return the share of each part."""
    found = Counter[str]()
    for stack, count in samples:
        found[part(stack)] += count
    return {name: found[name] / max(found.total(), 1) for name in PARTS}


def packages(samples: Samples) -> dict[str, float]:
    """Return the share of each package of ours, by the innermost function of ours; the largest first."""
    found = Counter[str]()
    for stack, count in samples:
        ours = [frame for frame in stack if frame.startswith(OURS)]
        found[".".join(_module(ours[-1]).split(".")[1:3]) if ours else "the loop and tasks"] += count
    return {name: count / found.total() for name, count in found.most_common()}
