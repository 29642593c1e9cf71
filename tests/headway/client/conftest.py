"""A client of the shared server, and one of a server whose answers a test writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from headway.client import Client
from tests.end_to_end.process import Server
from tests.sim.scripted import Script, Scripted

Serve = Callable[[Script], tuple[Scripted, Client]]


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """A client that blocks."""
    with Client(f"http://127.0.0.1:{server.port}") as client:
        yield client


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve a script, and return its server and a client with two seconds of patience."""
    started: list[tuple[Scripted, Client]] = []

    def begin(script: Script) -> tuple[Scripted, Client]:
        server = Scripted(script)
        started.append((server, Client(f"http://127.0.0.1:{server.port}", patience=2)))
        return started[-1]

    yield begin
    for server, client in started:
        client.close()
        server.__exit__()
