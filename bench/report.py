"""What a benchmark leaves: Markdown tables, JSON, a bar chart, in a folder of its own."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def folder(kind: str) -> Path:
    """Make and return bench/results/<time>-<kind>."""
    made = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}-{kind}"
    made.mkdir(parents=True, exist_ok=True)
    return made


def spread(values: Sequence[float], form: str = ".1f") -> str:
    """Return the median with the least and the greatest: ``8.9 (8.5-9.2)``."""
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:{form}} ({least:{form}}-{most:{form}})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first column is text, the others are figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def facts(values: Mapping[str, str]) -> str:
    """Return names and values as a Markdown list."""
    return "\n".join(f"- {name}: {value}" for name, value in values.items())


def write(target: Path, markdown: str, data: object) -> None:
    """Write table.md and results.json."""
    (target / "table.md").write_text(markdown + "\n")
    (target / "results.json").write_text(json.dumps(data, indent=1) + "\n")


def bars(target: Path, title: str, unit: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """Write chart.png and chart.svg, a group of bars for each name; return what to tell the user."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return "no chart: matplotlib is not installed (pip install --group bench-peers)"
    if not groups:
        return "no chart: too little was measured"
    series = list(dict.fromkeys(name for group in groups.values() for name in group))
    figure = Figure(figsize=(9, 0.5 + 0.32 * len(series) * len(groups)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(series)
    for place, name in enumerate(series):
        at = [row + place * height for row in range(len(groups))]
        drawn = axes.barh(at, [group.get(name, 0) for group in groups.values()], height * 0.9, label=name)
        axes.bar_label(
            drawn, ["" if name not in group else f"{group[name]:.4g}" for group in groups.values()], padding=3
        )
    axes.set_yticks([row + 0.4 - height / 2 for row in range(len(groups))], list(groups))
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    for kind in ("png", "svg"):
        figure.savefig(target / f"chart.{kind}", dpi=150)
    return f"chart: {target / 'chart.png'}"
