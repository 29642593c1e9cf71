"""A frame of ``headway top``: the counts of two moments as a table, or as a document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headway.cli.output import one_line

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

ENDED = ("succeeded", "failed", "cancelled")
# Tasks that are shown as the slowest, and as failing.
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """The counts of one moment, of time.monotonic, as ``GET /stats`` and ``GET /tasks`` tell them."""

    at: float
    stats: dict[str, Any]
    tasks: list[dict[str, Any]]


def seconds(value: float) -> str:
    """Return a run time, 0 for one that is not known."""
    return f"{value:.3f} s" if value else "-"


def rates(now: Sample, before: Sample | None) -> dict[str, float] | None:
    """Return jobs per second between two samples. None without a first one, or across a restart."""
    if before is None:
        return None
    new, old, seconds = now.stats["jobs"], before.stats["jobs"], now.at - before.at
    # Each job is in one state, so the sum grows with each submission.
    counts = {"submitted": sum(new.values()) - sum(old.values())} | {name: new[name] - old[name] for name in ENDED}
    if min(counts.values()) < 0:
        return None
    return {name: round(count / seconds, 3) for name, count in counts.items()}


def members(now: Sample, before: Sample | None) -> dict[str, Any]:
    """Return a frame as a document."""
    return {"rates": rates(now, before), "stats": now.stats, "tasks": now.tasks}


def slowest(now: Sample) -> list[dict[str, Any]]:
    """Return the tasks with the longest run times."""
    timed = [task for task in now.tasks if task["run_median_seconds"]]
    return sorted(timed, key=lambda task: -task["run_median_seconds"])[:SHOWN]


def failing(now: Sample) -> list[dict[str, Any]]:
    """Return the tasks with the most failed jobs."""
    failed = [task for task in now.tasks if task["counts"]["failed"]]
    return sorted(failed, key=lambda task: -task["counts"]["failed"])[:SHOWN]


def held(now: Sample) -> list[str]:
    """Return the tasks whose jobs are not started."""
    return [task["name"] for task in now.tasks if task.get("dispatch") == "hold"]


def closed(now: Sample) -> list[str]:
    """Return the tasks that refuse new jobs."""
    return [task["name"] for task in now.tasks if task.get("intake") == "closed"]


def frame(url: str, now: Sample, before: Sample | None, note: str = "") -> Group:
    """Return a frame for a terminal or a page of text."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="cyan", justify="right")
    facts.add_column()
    for name, fact in _facts(now, before):
        facts.add_row(name, fact)
    parts: list[RenderableType] = [Text(f"headway at {url}", style="bold"), facts]
    for title, tasks in (("slowest", slowest(now)), ("failing", failing(now))):
        if tasks:
            parts += ["", _table(title, tasks)]
    for title, names in (("on hold", held(now)), ("closed", closed(now))):
        if names:
            parts += ["", Text(one_line(f"{title}: {', '.join(names)}"), style="yellow")]
    if note:
        parts += ["", Text(note, style="bold red")]
    elif now.stats["draining"]:
        parts += ["", Text("The server is draining, and takes no new jobs.", style="yellow")]
    return Group(*parts)


def _facts(now: Sample, before: Sample | None) -> Iterator[tuple[str, RenderableType]]:
    """Yield the lines of a frame, each with its name."""
    from rich.text import Text

    stats = now.stats
    jobs, workers, journal, found = stats["jobs"], stats["workers"], stats["journal"], rates(now, before)
    yield (
        "queue",
        f"{stats['waiting']:,} of {stats['queue_size']:,}, the oldest ready for {stats['oldest_queued_seconds']:.1f} s",
    )
    wanted = stats.get("workers_wanted", 0)
    more = f", {wanted:,} wanted" if wanted > workers["count"] else ""
    yield "workers", f"{workers['count'] - workers['idle']:,} of {workers['count']:,} busy{more}"
    if found is None:
        yield "jobs/s", "-"
    else:
        yield "jobs/s", ", ".join(f"{rate:,.1f} {name}" for name, rate in found.items())
    style = "bold red" if jobs["failed"] else ""
    yield "ended", Text(", ".join(f"{jobs[name]:,} {name}" for name in ENDED), style=style)
    yield "run time", f"{seconds(stats['run_mean_seconds'])} on average"
    refused = sum(stats["rejections"].values())
    yield (
        "clients",
        f"{stats['connections']:,} connected, {stats['waiting_clients']:,} wait, {refused:,} requests refused",
    )
    kept = stats["results"]
    yield "results", f"{_mib(kept['bytes'])} of {_mib(kept['max_bytes'])}, payloads {_mib(stats['payload_bytes'])}"
    if journal is None:
        yield "journal", "none"
    else:
        full = Text(", its disk is full", style="bold red") if journal["full"] else Text()
        yield "journal", Text(f"{_mib(journal['bytes'])}, {journal['pending']:,} changes under way").append(full)


def _table(title: str, tasks: list[dict[str, Any]]) -> RenderableType:
    """Return tasks as a table."""
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="cyan")
    table.add_column(title, no_wrap=True)
    for name in ("median", "running", "unfinished", "succeeded", "failed"):
        table.add_column(name, justify="right")
    for task in tasks:
        counts = task["counts"]
        numbers = (f"{counts[name]:,}" for name in ("running", "unfinished", "succeeded", "failed"))
        table.add_row(_plain(task["name"]), seconds(task["run_median_seconds"]), *numbers)
    return table


def _plain(text: str) -> RenderableType:
    """Return text that is no markup."""
    from rich.text import Text

    return Text(one_line(text))


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:,.1f} MiB"
