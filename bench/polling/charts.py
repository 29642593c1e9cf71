"""What was found about asking, drawn: PNG and SVG."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.measure import BenchError
from bench.polling.foresight import BURST
from bench.polling.summary import POLICIES, Findings

COLOURS = dict(zip(POLICIES, ("tab:red", "tab:blue", "tab:cyan", "tab:green", "tab:purple", "tab:olive"), strict=True))


def check() -> None:
    """Raise BenchError where nothing can be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise BenchError("matplotlib is not installed: pip install --group bench")


def draw(folder: Path, findings: Findings, kinds: Sequence[str] = ("png", "svg")) -> None:
    """Write polling and, where there are crowds of several sizes on paper, crowds, in files of each of ``kinds``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    _policies(figure.subplots(1, 3), findings)
    _save(figure, folder / "polling", kinds)
    sizes = {one.clients for one in findings.foreseen}
    if len(sizes) > 1:
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        _crowds(figure.subplots(1, 3), findings)
        _save(figure, folder / "crowds", kinds)


def _save(figure: Any, path: Path, kinds: Sequence[str]) -> None:
    for kind in kinds:
        figure.savefig(path.with_suffix(f".{kind}"), dpi=120)


def _policies(axes: Any, findings: Findings) -> None:
    """Bars: what was measured, and beside it, as marks, what the model says."""
    names = [one.policy for one in findings.measured]
    paper = {one.policy: one for one in findings.modelled}
    colours = [COLOURS[name] for name in names]
    polls, delay, cpu = axes
    polls.bar(names, [one.polls_per_job for one in findings.measured], color=colours)
    delay.bar(names, [one.delay_ms[0] for one in findings.measured], color=colours, label="p50")
    delay.scatter(names, [one.delay_ms[1] for one in findings.measured], color=colours, marker="_", s=200)
    cpu.bar(names, [one.cpu_us_per_job for one in findings.measured], color=colours)
    known = [name for name in names if name in paper]
    _mark(polls, known, [paper[name].polls_per_job for name in known])
    _mark(delay, known, [paper[name].delay_ms[0] for name in known])
    for one, title in zip(
        axes, ("polls per job", "delay, ms: p50, and p99 (—)", "CPU of the server per job, µs"), strict=True
    ):
        _finish(one, title)
        one.tick_params(axis="x", rotation=40)
    polls.set_yscale("log")
    delay.set_yscale("log")
    if known:
        polls.legend(frameon=False)


def _mark(axes: Any, names: list[str], values: list[float]) -> None:
    axes.scatter(names, values, color="black", marker="x", label="model", zorder=3)


def _crowds(axes: Any, findings: Findings) -> None:
    """Lines: what a burst costs, by the size of the crowd."""
    for policy in dict.fromkeys(one.policy for one in findings.foreseen):
        found = [one for one in findings.foreseen if one.policy == policy and one.name == BURST]
        clients = [one.clients for one in found]
        values = (
            [one.polls_per_job for one in found],
            [max(one.delay_ms[0], 0.1) for one in found],
            [100 * one.utilisation for one in found],
        )
        whole = [size for size, one in zip(clients, found, strict=True) if one.each == 1]
        for one, height in zip(axes, values, strict=True):
            one.plot(clients, height, color=COLOURS[policy], label=policy)
            one.scatter(whole, height[: len(whole)], color=COLOURS[policy])
            # Sampled.
            one.scatter(
                clients[len(whole) :], height[len(whole) :], facecolors="white", edgecolors=COLOURS[policy], zorder=3
            )
    for one, title in zip(axes, ("polls per job", "delay p50, ms", "CPU of the server, % of a core"), strict=True):
        one.set_xscale("log")
        one.set_xlabel("clients that come in a burst (hollow: sampled)")
        _finish(one, title)
    axes[0].set_yscale("log")
    axes[1].set_yscale("log")
    axes[0].legend(frameon=False)


def _finish(axes: Any, title: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
