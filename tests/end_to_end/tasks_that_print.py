"""Tasks that print and log at length, most of them in worker processes, which other tests are to start without."""

from __future__ import annotations

import sys

import headway


@headway.task(run_in="process")
def print_lines(count: int) -> None:
    """Print lines in a process."""
    for number in range(count):
        print(f"line {number}")


def numbered(number: int) -> bytes:
    """Return a text of a megabyte with its number at its beginning and at its end."""
    return b"%9d" % number + b"x" * ((1 << 20) - 19) + b"%9d\n" % number


@headway.task(run_in="process")
def print_megabytes(count: int) -> None:
    """Print so many megabytes in a process."""
    for number in range(count):
        sys.stdout.buffer.write(numbered(number))


@headway.task(run_in="process")
def log_megabytes_in_a_process(count: int, context: headway.Context) -> None:
    """Log so many megabytes in a process."""
    for number in range(count):
        context.log(numbered(number).decode())


@headway.task
def log_megabytes_in_a_thread(count: int, context: headway.Context) -> None:
    """Log so many megabytes in a thread."""
    for number in range(count):
        context.log(numbered(number).decode())
