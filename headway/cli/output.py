"""Output: lines for people, and JSON for programs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TextIO

import click


def json_line(members: object) -> str:
    """Return a document as one line."""
    return json.dumps(members, separators=(",", ":"))


def say_json(members: object) -> None:
    """Write a document as one line."""
    click.echo(json_line(members))


def one_line(text: str) -> str:
    """Return text of a server without line breaks and control characters, which a terminal would obey."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def on_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal that can be drawn on. A stream that is closed is None."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def say_table(rows: Sequence[Sequence[str]]) -> None:
    """Write rows in columns. The first row is the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
