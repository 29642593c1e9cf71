"""Charts of a load test, as PNG and SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

History = Sequence[Mapping[str, str]]
Samples = Sequence[Mapping[str, float]]
PERCENTILES = ("50%", "95%", "99%")


def draw(folder: Path, history: History, samples: Samples) -> None:
    """Draw requests and users, response times, failures, and CPU, one above the other, over seconds."""
    began = samples[0]["time"] - samples[0]["elapsed_s"]
    times = [int(row["Timestamp"]) - began for row in history]
    figure, (requests, latency, failures, cpu) = plt.subplots(4, 1, figsize=(10, 13), sharex=True, layout="constrained")
    _requests(requests, times, history)
    for name in PERCENTILES:
        latency.plot(times, [_number(row[name]) for row in history], label=f"p{name[:-1]}")
    _finish(latency, "response time, ms (last 10 s)")
    failures.plot(times, [_number(row["Failures/s"]) for row in history], color="tab:red", label="failures/s")
    _finish(failures, "failures/s")
    seconds = [sample["elapsed_s"] for sample in samples]
    for name in ("server", "locust"):
        cpu.plot(seconds, [100 * sample[f"{name}_cpu"] for sample in samples], label=name)
    _finish(cpu, "CPU, % of a core")
    cpu.set_xlabel("seconds")
    for suffix in ("png", "svg"):
        figure.savefig(folder / f"load.{suffix}", dpi=120)
    plt.close(figure)


def _requests(axes: Axes, times: Sequence[float], history: History) -> None:
    axes.plot(times, [_number(row["Requests/s"]) for row in history], label="requests/s")
    users = axes.twinx()
    users.plot(times, [_number(row["User Count"]) for row in history], color="tab:gray", linestyle="--", label="users")
    users.set_ylabel("users")
    users.set_ylim(bottom=0)
    users.legend(loc="lower right")
    _finish(axes, "requests/s")


def _finish(axes: Axes, label: str) -> None:
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")


def _number(text: str) -> float:
    return float(text) if text not in ("", "N/A") else 0.0
