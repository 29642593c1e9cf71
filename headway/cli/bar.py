"""The bar of a wait, on a terminal only.

It is on standard error, so that the output can go to a file or a pipe.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING

from headway.cli.output import on_terminal, one_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from headway.client import Status


BAR_WIDTH = 40
# Of both numbers, the time, and the spaces between.
OTHERS_WIDTH = 19


class Bar:
    """How many of several jobs have ended, or the state and the progress of a single one."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.shown = on_terminal(sys.stderr)
        self._ids = ids
        self._progress: Progress | None = None
        self._row: TaskID | None = None
        self._outputs = ExitStack()

    def __enter__(self) -> Bar:
        """Draw it."""
        if self.shown:
            several = len(self._ids) > 1
            label = f"{len(self._ids)} jobs" if several else self._ids[0]
            self._progress = _progress(len(label))
            self._row = self._progress.add_task(label, total=len(self._ids) if several else None, note="")
            self._progress.start()
            self._write_above(self._progress.console)
        return self

    def __exit__(self, *_: object) -> None:
        """Take it away."""
        self._outputs.close()
        if self._progress is not None:
            self._progress.stop()

    def _write_above(self, console: Console) -> None:
        """Have lines stand above it, those of both outputs if both are terminals."""
        from headway.cli.above import Above

        self._outputs.enter_context(redirect_stderr(Above(console, sys.stderr)))
        if on_terminal(sys.stdout):
            # An output that goes to a file is not touched.
            self._outputs.enter_context(redirect_stdout(Above(console, sys.stdout)))

    def advance(self) -> None:
        """Count a job that is waited for no longer."""
        if self._progress is not None and self._row is not None and len(self._ids) > 1:
            self._progress.advance(self._row)

    def show(self, status: Status) -> None:
        """Show the state, the progress and the message of the single job."""
        if self._progress is not None and self._row is not None:
            total = None if status.progress is None else 100
            note = one_line(" ".join([status.state, status.message or ""]))
            self._progress.update(self._row, total=total, completed=status.progress or 0, note=note)


def _progress(label_width: int) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    console = Console(stderr=True)
    room = console.width - label_width - OTHERS_WIDTH
    bar = max(min(room // 3, BAR_WIDTH), 1)
    note = Column(no_wrap=True, overflow="ellipsis", max_width=max(room - bar, 1))
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=bar),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False, table_column=note),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
