"""A client of the shared server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from headway.client import Client
from tests.end_to_end.process import Server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """A client that blocks."""
    with Client(f"http://127.0.0.1:{server.port}") as client:
        yield client
