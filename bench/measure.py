"""What the benchmarks share: the CPU and memory of processes, cores, file limits, wrk, and what the machine is.

CPU and memory are read from Linux's /proc: a process and all its descendants, user and kernel apart. The CPU time of a
server between two readings, divided by the requests it answered between them, does not depend on whether the load
generator could keep up; requests per second do.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
ROOT = Path(__file__).parent.parent
TICKS_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGESIZE")
SPARE_FILES = 64
WRK_INSTALL = "apt install wrk (Debian), brew install wrk (macOS)"


class BenchError(Exception):
    """A benchmark cannot go on; the text is one line for its user."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU seconds in the process itself and in the kernel on its behalf."""

    user_s: float
    kernel_s: float

    def __sub__(self, before: Cpu) -> Cpu:
        return Cpu(self.user_s - before.user_s, self.kernel_s - before.kernel_s)


@dataclass(frozen=True, slots=True)
class Load:
    """One measured window: what the generator counted and what the server spent on it."""

    requests: int
    seconds: float
    cpu: Cpu
    # CPU seconds that other processes on this machine took meanwhile.
    others_s: float = 0.0

    @property
    def noise(self) -> float:
        """How many cores others kept busy."""
        return self.others_s / self.seconds

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds

    @property
    def user_us(self) -> float:
        """User CPU of the server, µs per request."""
        return self.cpu.user_s / self.requests * 1e6

    @property
    def kernel_us(self) -> float:
        """Kernel CPU of the server, µs per request."""
        return self.cpu.kernel_s / self.requests * 1e6

    @property
    def cpu_us(self) -> float:
        """CPU of the server, µs per request."""
        return self.user_us + self.kernel_us


def descendants(pid: int) -> list[int]:
    """Return ``pid`` and all processes below it."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                children.setdefault(int(_stat(int(entry))[1]), []).append(int(entry))
    found = [pid]
    for parent in found:
        found.extend(children.get(parent, []))
    return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/pid/stat after the name, which may hold spaces: state, parent, and so on (proc(5))."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def cpu(pids: Sequence[int]) -> Cpu:
    """Return the CPU that ``pids`` have used, with that of children they have waited for."""
    user = kernel = 0
    for pid in pids:
        try:
            fields = [int(field) for field in _stat(pid)[11:15]]
        except OSError:
            raise BenchError(f"process {pid}, which is measured, has died") from None
        user += fields[0] + fields[2]
        kernel += fields[1] + fields[3]
    return Cpu(user / TICKS_S, kernel / TICKS_S)


class Window:
    """What ``pids`` spend from here to ``load``, and what all others but this process and its children do."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._busy_s, self._own_s = _busy_s(), _own_s()
        self._cpu = cpu(pids)

    def load(self, requests: int, seconds: float) -> Load:
        """Close the window in which ``requests`` were answered; ``seconds`` of it were under load."""
        spent = cpu(self._pids) - self._cpu
        ours = spent.user_s + spent.kernel_s + _own_s() - self._own_s
        return Load(requests, seconds, spent, max(0.0, _busy_s() - self._busy_s - ours))


def _busy_s() -> float:
    """CPU seconds that the machine has worked: user, nice, system, irq, softirq, steal (proc(5))."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:8])) / TICKS_S


def _own_s() -> float:
    """CPU seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


def rss_bytes(pids: Sequence[int]) -> int:
    """Return the resident memory of ``pids``; pages that they share count for each of them."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    return total


def pss_bytes(pids: Sequence[int]) -> int:
    """Return the resident memory of ``pids`` with each shared page counted once, in equal parts."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
            total += int(found[1]) * 1024 if found else 0
    return total


def pin(core: int | None) -> None:
    """Keep this process and what it starts from now on to one core; None: to any."""
    os.sched_setaffinity(0, range(os.cpu_count() or 1) if core is None else {core})


def cores(wanted: int) -> None:
    """Raise BenchError where this machine cannot keep ``wanted`` processes apart, or has no /proc."""
    if not sys.platform.startswith("linux"):
        raise BenchError("this benchmark reads /proc and pins processes to cores: it needs Linux")
    if len(os.sched_getaffinity(0)) < wanted:
        raise BenchError(f"this benchmark needs {wanted} cores, one for each side; here is one for both")


def allow_files(needed: int) -> None:
    """Raise the soft limit of open files to ``needed``, for this process and what it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed += SPARE_FILES
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise BenchError(
            f"too few file descriptors: {needed} are needed, {hard} allowed; raise it: ulimit -Hn {needed}"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def wrk(url: str, connections: int, seconds: float, script: Path) -> tuple[int, float]:
    """Run wrk with one thread and a Lua script; return how many answers came in how many seconds.

    Raises BenchError when there is no wrk, or when an answer was missing or not 2xx.
    """
    requests, took, _ = wrk_with_p99(url, connections, seconds, script)
    return requests, took


def wrk_with_p99(url: str, connections: int, seconds: float, script: Path) -> tuple[int, float, float]:
    """Do as ``wrk``, and return the 99th percentile of the times to an answer, in ms, as well."""
    if not shutil.which("wrk"):
        raise BenchError(f"wrk is not installed: {WRK_INSTALL}")
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", "-s", str(script), url]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 30)
    counts = re.search(r"(\d+) requests in ([\d.]+)s", done.stdout)
    if done.returncode or not counts or not int(counts[1]):
        said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise BenchError(f"wrk got no answers from {url}: {said[-1]}")
    for complaint in (r"Socket errors: .*", r"Non-2xx.*"):
        if found := re.search(complaint, done.stdout):
            raise BenchError(f"wrk on {url}: {found[0]}")
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", done.stdout)
    p99_ms = float(p99[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[p99[2]] if p99 else 0.0
    return int(counts[1]), float(counts[2]), p99_ms


def machine(bench: str, arguments: Sequence[str] | None = None) -> dict[str, str]:
    """Return what the figures were measured on, when, and by which command: that of the module ``bench``."""
    model = (
        re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) if Path("/proc/cpuinfo").exists() else None
    )
    return {
        "command": " ".join([f"python -m bench.{bench}", *(sys.argv[1:] if arguments is None else arguments)]),
        "date": time.strftime("%Y-%m-%d"),
        "cpu": model[1] if model else platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * PAGE_BYTES / 2**30:.0f} GiB",
        "system": platform.platform(),
        "python": platform.python_version(),
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }
