"""A call of a client, by threads and by asyncio: what is tested of one is tested of the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from typing import Any

import pytest

from headway.client import AsyncClient, Client

# Calls a function with a client. Of many values, the first ``most``.
Ask = Callable[..., Any]


def by_threads(port: int, act: Callable[[Any], Any], most: int | None = None) -> Any:
    """Call ``act`` with a Client, and return its value, or a list of its values."""
    with Client(f"http://127.0.0.1:{port}", patience=2) as client:
        found = act(client)
        return list(islice(found, most)) if isinstance(found, Iterator) else found


def by_asyncio(port: int, act: Callable[[Any], Any], most: int | None = None) -> Any:
    """Do the same with an AsyncClient."""

    async def run() -> Any:
        async with AsyncClient(f"http://127.0.0.1:{port}", patience=2) as client:
            found = act(client)
            return await (_list(found, most) if isinstance(found, AsyncIterator) else found)

    return asyncio.run(run())


async def _list(found: Any, most: int | None) -> list[Any]:
    values: list[Any] = []
    try:
        if most != 0:
            async for value in found:
                values.append(value)
                if len(values) == most:
                    break
    finally:
        await found.aclose()
    return values


both = pytest.mark.parametrize("ask", [by_threads, by_asyncio])
