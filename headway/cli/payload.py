"""The argument PAYLOAD as content: JSON, ``-`` for JSON on standard input, ``@FILE`` for a file as it is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NoReturn

from headway.cli.exits import EXIT_USAGE
from headway.cli.settings import fail

BYTES = "application/octet-stream"


def read(text: str | None, media_type: str | None) -> tuple[object, str | None]:
    """Return the payload, and its media type if it is sent as it is."""
    if text is not None and text.startswith("@"):
        return _file(Path(text[1:])), media_type or guessed(text[1:])
    if media_type is not None:
        return _given() if text == "-" else (text or "").encode(errors="surrogateescape"), media_type
    if text is None:
        return None, None
    if text == "-":
        return _value("standard input", _given()), None
    return _value("PAYLOAD", text.encode(errors="surrogateescape")), None


def guessed(name: str) -> str:
    """Return the media type that the name of a file tells."""
    import mimetypes

    kind, packed = mimetypes.guess_type(name)
    return BYTES if kind is None or packed is not None else kind


def _given() -> bytes:
    """Return all of standard input, which may be closed (``<&-``)."""
    if sys.stdin is None:
        fail("standard input is closed, and - reads it", EXIT_USAGE)
    return sys.stdin.buffer.read()


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        fail(f"{path}: cannot be read: {error.strerror}", EXIT_USAGE)


def _value(place: str, data: bytes) -> object:
    """Return the value of a JSON text. NaN and Infinity are none."""
    try:
        return json.loads(data, parse_constant=_no_number)
    except RecursionError:
        fail(f"{place} is nested too deeply for JSON", EXIT_USAGE)
    except ValueError as error:
        hint = """quote it for the shell, as in '{"rows": 3}', or send a file with @FILE"""
        fail(f"{place} is not JSON ({error}): {hint}", EXIT_USAGE)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")
