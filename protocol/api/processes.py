"""The metrics of the server as a process: CPU, memory, files, threads, garbage collection.

Their names are those of prometheus_client. To read them takes system calls, one for each open file
among them, so they are read in a thread.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import CollectorRegistry

PROC = Path("/proc")
# In /proc/<pid>/stat behind the name, which ends with a bracket (proc_pid_stat(5)).
THREADS, RESIDENT_PAGES = 17, 21
RESIDENT = "headway_processes_resident_memory_bytes"


def read(workers: Sequence[int] | None) -> list[Metric]:
    """Return the metrics of this process, and of the worker processes with these ids if it has any.

    Without /proc, as on macOS, there are only those of Python.
    """
    registry = CollectorRegistry(auto_describe=False)
    for collector in (ProcessCollector, GCCollector, PlatformCollector):
        collector(registry=registry)
    metrics = list(registry.collect())
    own = _stat("self")
    if own:
        metrics.append(GaugeMetricFamily("process_threads", "Number of OS threads in the process.", int(own[THREADS])))
    if workers is not None and own:
        pages = sum(int(stat[RESIDENT_PAGES]) for stat in map(_stat, map(str, workers)) if stat)
        text = "Resident memory of all worker processes. They share some of it."
        metrics.append(GaugeMetricFamily(RESIDENT, text, pages * os.sysconf("SC_PAGE_SIZE")))
    return metrics


def _stat(pid: str) -> list[bytes]:
    """Return the fields of a process from its state on, none if it is gone."""
    try:
        return (PROC / pid / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return []
