"""The display of a run in progress: a live table in a terminal, else a line every few seconds."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol, TextIO

from headway.sim.figures import Moment
from headway.sim.settings import CrowdSettings
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

LINE_EVERY_S = 5.0


class View(AbstractContextManager["View"], Protocol):
    """Shows moments."""

    def show(self, moment: Moment) -> None:
        """Show one. They come once a second."""


class LineView(AbstractContextManager["LineView"]):
    """A line every few seconds, for logs and pipes."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._next_s = 0.0

    def __exit__(self, *_: object) -> None:
        """Leave the written lines."""

    def show(self, moment: Moment) -> None:
        """Write a line if it is time."""
        # A beat may come a little early.
        if moment.elapsed_s + 0.5 >= self._next_s:
            self._next_s = moment.elapsed_s + LINE_EVERY_S
            self._out.write(line(moment) + "\n")
            self._out.flush()


class Terminal(AbstractContextManager["Terminal"]):
    """A table that is drawn again each second. rich obeys NO_COLOR."""

    def __init__(self, console: Console, settings: CrowdSettings) -> None:
        self._title = f"{settings.clients} clients at {settings.url}, {settings.jobs} jobs each, poll {settings.poll}"
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Terminal:
        """Take over the lower part of the terminal."""
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        self._live.stop()

    def show(self, moment: Moment) -> None:
        """Draw it."""
        self._live.update(table(self._title, moment), refresh=True)


def view(out: TextIO, settings: CrowdSettings) -> View:
    """Return the view that suits ``out``."""
    console = Console(file=out, highlight=False)
    return Terminal(console, settings) if console.is_terminal else LineView(out)


def line(moment: Moment) -> str:
    """Return a moment as one line."""
    parts = [
        f"{moment.elapsed_s:6.0f} s",
        f"{moment.clients} clients",
        f"{moment.jobs_per_s:.0f} jobs/s",
        f"{moment.requests_per_s:.0f} requests/s",
        f"{moment.polls_per_job:.2f} polls/job",
        f"poll {in_ms(moment.poll)}",
        f"create {in_ms(moment.create)}",
        f"pushed back {sum(moment.pushed_back.values())}",
        f"errors {counts(moment.errors)}",
    ]
    return "  ".join(parts)


def table(title: str, moment: Moment) -> Group:
    """Return a moment as a table with a progress bar."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="cyan", justify="right")
    rows.add_column()
    rows.add_row("clients", f"{moment.clients}  on {moment.connections} connections")
    rows.add_row("jobs/s", f"{moment.jobs_per_s:,.0f}")
    rows.add_row("requests/s", f"{moment.requests_per_s:,.0f}")
    rows.add_row("polls per job", f"{moment.polls_per_job:.2f}")
    rows.add_row("poll", in_ms(moment.poll))
    rows.add_row("create", in_ms(moment.create))
    rows.add_row("jobs ended", counts(moment.ended))
    rows.add_row("pushed back", counts(moment.pushed_back))
    rows.add_row("errors", Text(counts(moment.errors), style="bold red" if moment.errors else "green"))
    if moment.lag_p99_s > 0.05:
        rows.add_row("note", Text(f"the simulator itself is {moment.lag_p99_s * 1000:.0f} ms late", style="yellow"))
    return Group(Text(title, style="bold"), rows, _progress(moment))


def _progress(moment: Moment) -> Table:
    bar = Table.grid(padding=(0, 2))
    if moment.duration_s:
        done = ProgressBar(total=moment.duration_s, completed=min(moment.elapsed_s, moment.duration_s), width=50)
        bar.add_row(done, f"{moment.elapsed_s:.0f} of {moment.duration_s:g} s")
    else:
        bar.add_row(f"{moment.elapsed_s:.0f} s, Ctrl-C ends")
    return bar


def in_ms(percentiles: tuple[float, ...]) -> str:
    """Return p50, p95 and p99, given in seconds."""
    return "p50 {:.1f}  p95 {:.1f}  p99 {:.1f} ms".format(*(seconds * 1000 for seconds in percentiles))


def counts(by_name: dict[str, int] | dict[int, int]) -> str:
    """Return counts as ``name: count``, or 0."""
    return ", ".join(f"{name}: {count}" for name, count in by_name.items()) or "0"
