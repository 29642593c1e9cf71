"""The lines of a command whose requests get no useful answer yet."""

from __future__ import annotations

import logging
import time

import click

from headway.cli.output import one_line

# Seconds for which a line is not repeated.
QUIET_S = 10.0


def tell(told: bool) -> None:
    """Write each warning of the client that it tries again as a line, or none of them."""
    log = logging.getLogger("headway.client")
    log.addHandler(Tries() if told else logging.NullHandler())
    log.propagate = False


class Tries(logging.Handler):
    """Writes each record as a line. Many waits say the same."""

    def __init__(self) -> None:
        super().__init__()
        # When each line was written, of time.monotonic.
        self._written: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        line, now = one_line(record.getMessage()), time.monotonic()
        if now - self._written.get(line, -QUIET_S) >= QUIET_S:
            self._written[line] = now
            click.echo(f"headway: {line}", err=True)
