"""Answers of a server, as bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping

ID = "7b9f21c4000000000002f95fbb0a2f0f8d2c"
OTHER = "7b9f21c4000000000003a0c2d17e5f1b60aa"


def answer(code: int, content: bytes | Mapping[str, object], *lines: str, kind: str = "application/json") -> bytes:
    """Return an answer with header lines."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    head = [f"HTTP/1.1 {code} Because", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join([*head, "", ""]).encode() + body


def problem(code: int, reason: str, *lines: str, **members: object) -> bytes:
    """Return a problem document."""
    content = {"type": f"urn:headway:problem:{reason}", "detail": "because", **members}
    return answer(code, content, *lines, kind="application/problem+json")


def target(request: bytes) -> str:
    """Return method and target of a request."""
    return request.partition(b" HTTP/1.1")[0].decode()


def field(request: bytes, name: str) -> str | None:
    """Return a header of a request."""
    for line in request.split(b"\r\n")[1:]:
        found, _, value = line.decode("latin-1").partition(":")
        if found.lower() == name:
            return value.strip()
    return None


def content(request: bytes) -> bytes:
    """Return the content of a request, which Scripted has put behind its header lines."""
    return request.rpartition(b"\r\n")[2]
