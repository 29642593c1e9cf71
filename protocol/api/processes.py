"""The metrics of the server as a process: CPU, memory, files, threads, garbage collection.

Their names are those of prometheus_client. With gateways the server is several processes, and the
figures are the sums of theirs, whichever is asked. To read them takes system calls, one for each
open file among them, so they are read in a thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import CollectorRegistry

PROC = Path("/proc")
# In /proc/<pid>/stat behind the name, which ends with a bracket (proc_pid_stat(5)).
PARENT, THREADS, RESIDENT_PAGES = 1, 17, 21
# Told of the oldest.
OF_THE_FIRST = {"process_start_time_seconds"}
RESIDENT = "headway_processes_resident_memory_bytes"


def read(workers: Sequence[int] | None, supervisor: int = 0) -> list[Metric]:
    """Return the metrics of this server, and of the worker processes with these ids if it has any.

    Without a ``supervisor`` it is this process, else that one and its children: those of the garbage
    collectors are left out then. Without /proc, as on macOS, there are only those of Python.
    """
    registry = CollectorRegistry(auto_describe=False)
    PlatformCollector(registry=registry)
    if not supervisor:
        GCCollector(registry=registry)
    pids = [str(supervisor), *_children(supervisor)] if supervisor else ["self"]
    metrics = [*_together(pids), *registry.collect()]
    found = [stat for stat in map(_stat, pids) if stat]
    if found:
        threads = sum(int(stat[THREADS]) for stat in found)
        metrics.append(GaugeMetricFamily("process_threads", "Number of OS threads in the process.", threads))
    if workers is not None and found:
        pages = sum(int(stat[RESIDENT_PAGES]) for stat in map(_stat, map(str, workers)) if stat)
        text = "Resident memory of all worker processes. They share some of it."
        metrics.append(GaugeMetricFamily(RESIDENT, text, pages * os.sysconf("SC_PAGE_SIZE")))
    return metrics


def _together(pids: Sequence[str]) -> Iterable[Metric]:
    """Return what prometheus_client tells of a process, as sums over these."""
    found: dict[str, Metric] = {}
    for pid in pids:
        for metric in ProcessCollector(
            pid=partial(str, pid), registry=CollectorRegistry(auto_describe=False)
        ).collect():
            before = found.setdefault(metric.name, metric)
            if before is not metric and metric.name not in OF_THE_FIRST:
                (old,), (new,) = before.samples, metric.samples
                before.samples = [old._replace(value=old.value + new.value)]
    return found.values()


def _children(pid: int) -> list[str]:
    """Return the ids of the children of a process, none without /proc."""
    parent = b"%d" % pid
    entries = os.listdir(PROC) if PROC.is_dir() else []
    stats = ((entry, _stat(entry)) for entry in entries if entry.isdecimal())
    return [entry for entry, stat in stats if stat and stat[PARENT] == parent]


def _stat(pid: str) -> list[bytes]:
    """Return the fields of a process from its state on, none if it is gone."""
    try:
        return (PROC / pid / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return []
