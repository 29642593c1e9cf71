"""Payloads and results as people are shown them, in the lines of an export."""

from __future__ import annotations

import orjson
from headway.core.body import JSON, OCTETS


def shown_payload(media_type: str, payload: bytes) -> object:
    """Return a payload: JSON as it is, and other content by its media type. Empty: JSON."""
    return _shown_content(media_type, payload) if media_type else _on_one_line(payload)


def shown_result(media_type: str, body: bytes) -> dict[str, object]:
    """Return a result, or the text of an error, by its media type."""
    if media_type == JSON:
        return {"media_type": media_type, "json": _on_one_line(body)}
    return _shown_content(media_type or OCTETS, body)


def _on_one_line(text: bytes) -> orjson.Fragment:
    # Line ends stand between the values of JSON, never within a string.
    return orjson.Fragment(text.replace(b"\n", b" ").replace(b"\r", b" "))


def _shown_content(media_type: str, body: bytes) -> dict[str, object]:
    try:
        return {"media_type": media_type, "text": body.decode()}
    except UnicodeDecodeError:
        return {"media_type": media_type, "hex": body.hex()}
