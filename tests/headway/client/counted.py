"""Clients that count their requests and connections."""

from __future__ import annotations

from typing import NamedTuple

import httpx2

MOST = 50


class Sent(NamedTuple):
    """A request."""

    method: str
    path: str
    # Whether the server is asked to wait.
    waits: bool
    key: str | None


class Counted(httpx2.AsyncClient):
    """Notes each request, and the port of each connection."""

    def __init__(self) -> None:
        self.seen: list[Sent] = []
        self.ports: set[int] = set()
        super().__init__(
            limits=httpx2.Limits(max_connections=MOST, max_keepalive_connections=MOST),
            event_hooks={"request": [self._note], "response": [self._count]},
            verify=False,
        )

    async def _note(self, request: httpx2.Request) -> None:
        self.seen.append(_sent(request))

    async def _count(self, response: httpx2.Response) -> None:
        self.ports.add(response.extensions["network_stream"].get_extra_info("client_addr")[1])


class CountedInThreads(httpx2.Client):
    """Notes each request."""

    def __init__(self) -> None:
        self.seen: list[Sent] = []
        super().__init__(event_hooks={"request": [lambda request: self.seen.append(_sent(request))]}, verify=False)


def _sent(request: httpx2.Request) -> Sent:
    headers = request.headers
    return Sent(request.method, request.url.raw_path.decode(), "prefer" in headers, headers.get("idempotency-key"))
