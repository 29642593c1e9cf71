"""A task of the crowd that returns another number than it was given."""

from __future__ import annotations

import headway


@headway.task
async def effect(number: int) -> int:
    """Return the next number."""
    return number + 1
