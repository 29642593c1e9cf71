"""Output: lines for people, and JSON for programs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TextIO

import click

# What a terminal obeys and does not show (ECMA-48): colours and moves, titles and links, and others.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\^-~])")


def json_line(members: object) -> str:
    """Return a document as one line."""
    return json.dumps(members, separators=(",", ":"))


def say_json(members: object) -> None:
    """Write a document as one line."""
    click.echo(json_line(members))


def one_line(text: str) -> str:
    """Return text of a server without line breaks and control characters, which a terminal would obey."""
    return " ".join(plain_text(text).split())


def plain_text(text: str) -> str:
    """Return text of a server with its lines and tabs, and without characters that a terminal would obey."""
    lines = _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return "".join(char if char.isprintable() or char in "\n\t" else " " for char in lines)


def iso(time: datetime | None) -> str | None:
    """Return a time as the server writes it."""
    return None if time is None else time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def on_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal that can be drawn on. A stream that is closed is None."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def say_table(rows: Sequence[Sequence[str]]) -> None:
    """Write rows in columns. The first row is the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
