"""The command line: ``headway top``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from headway.cli import server
from headway.cli.output import on_terminal, one_line, say_json
from headway.cli.times import TimeSpan

if TYPE_CHECKING:
    from headway.cli.frame import Sample
    from headway.client import Client

    Show = Callable[[Sample, Sample | None, str], None]


class Interval(TimeSpan):
    """A time between two frames."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds. Raises BadParameter."""
        seconds = super().convert(value, param, ctx)
        if not 0.1 <= seconds <= 3600:
            self.fail(f"{value!r} is not in the range 0.1 to 3600 seconds.", param, ctx)
        return seconds


@click.command(epilog=server.EPILOG)
@click.option("--once", is_flag=True, help="Write one frame, with the rates of one interval.")
@click.option(
    "--interval",
    type=Interval(),
    default=1.0,
    metavar="TIME",
    help="The time between two frames.  [default: 1]",
)
@server.asks
def top(once: bool, interval: float, *, as_json: bool, url: str | None, patience: float | None) -> None:
    """Show the server at work: queue, workers, rates, the slowest and the failing tasks.

    A terminal shows the last frame until Ctrl-C. Elsewhere the frames follow each other.
    """
    live = not once and not as_json and on_terminal(sys.stdout)
    with server.errors(), server.client(url, patience) as client:
        now = _take(client)
        with _terminal(client.url) if live else _pages(client.url, as_json) as show:
            if live:
                show(now, None, "")
            _watch(client, now, show, interval=interval, once=once, stays=live)


def _watch(client: Client, now: Sample, show: Show, *, interval: float, once: bool, stays: bool) -> None:
    """Show a frame after each interval. One that ``stays`` outlives a server that does not answer."""
    from headway.client import Unavailable

    while True:
        time.sleep(interval)
        before = now
        try:
            now = _take(client)
        except Unavailable as error:
            if not stays:
                raise
            show(before, None, one_line(str(error)))
            continue
        show(now, before, "")
        if once:
            return


def _take(client: Client) -> Sample:
    """Ask for all counts."""
    from headway.cli.frame import Sample

    stats = server.document(client, "/stats", member="jobs")
    tasks = server.document(client, "/tasks", member="tasks")["tasks"]
    return Sample(time.monotonic(), stats, tasks)


@contextmanager
def _terminal(url: str) -> Iterator[Show]:
    """Draw each frame over the last one."""
    from rich.console import Console
    from rich.live import Live

    from headway.cli.frame import frame

    with Live(console=Console(highlight=False), auto_refresh=False, screen=True) as live:
        yield lambda now, before, note: live.update(frame(url, now, before, note), refresh=True)


@contextmanager
def _pages(url: str, as_json: bool) -> Iterator[Show]:
    """Write each frame below the last one."""
    from headway.cli.frame import frame, members

    def show(now: Sample, before: Sample | None, note: str) -> None:
        if as_json:
            say_json(members(now, before))
        else:
            from rich.console import Console

            # rich by itself ends with 1 if nobody reads.
            console = Console(highlight=False)
            with console.capture() as text:
                console.print(frame(url, now, before, note))
            click.echo(text.get())

    yield show
