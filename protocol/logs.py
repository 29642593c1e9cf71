"""Logs to stdout: plain lines for a terminal, a JSON object a line for everything else."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Literal

import orjson
from headway.core.config import Log

COLOURS = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m", logging.CRITICAL: "\x1b[31m"}
RESET = "\x1b[0m"


class JsonFormatter(logging.Formatter):
    """One JSON object a line, times in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_text:
            line["exception"] = record.exc_text
        elif record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class PlainFormatter(logging.Formatter):
    """Time, level and message; warnings yellow and errors red where ``colour``."""

    def __init__(self, colour: bool) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or lines where there is a traceback."""
        text = super().format(record)
        colour = COLOURS.get(record.levelno, "") if self._colour else ""
        return f"{colour}{text}{RESET}" if colour else text


def set_up(settings: Log) -> None:
    """Send the log of this process to stdout."""
    terminal = sys.stdout.isatty()
    kind: Literal["auto", "plain", "json"] = settings.format
    if kind == "auto":
        kind = "plain" if terminal else "json"
    handler = logging.StreamHandler(sys.stdout)
    # https://no-color.org: any value that is not empty.
    colour = terminal and not os.environ.get("NO_COLOR")
    handler.setFormatter(PlainFormatter(colour) if kind == "plain" else JsonFormatter())
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
