"""A task that takes JSON and content."""

from __future__ import annotations

import headway


@headway.task(body_bytes=1_000_000)
async def size_of(payload: object) -> int:
    """Return how much came."""
    return len(payload.data) if isinstance(payload, headway.Body) else 0
