"""The state that routes share: the engine, the clock, heads of answers, the limits on clients."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from headway.core.config import Config
from headway.core.interface import Engine, Later, Soon
from headway.protocol.access.clients import Clients
from headway.protocol.access.guard import Guard
from headway.protocol.access.hosts import Hosts
from headway.protocol.access.limits import limits
from headway.protocol.access.origins import Origins
from headway.protocol.access.tokens import Tokens
from headway.protocol.api.fields import ACCEPTED, SENT
from headway.protocol.api.headers import Heads
from headway.protocol.api.page import CachedPages
from headway.protocol.http.clock import Clock
from headway.protocol.http.connections import Connections
from headway.protocol.http.responses import Answer, Held

Value = TypeVar("Value")


class Service:
    """The state of one server, apart from its sockets."""

    # The connections that it serves.
    connections: Connections

    def __init__(self, config: Config, engine: Engine) -> None:
        self.config = config
        # Before the path of each route, and before the id or name in the URL of a job, batch or task.
        self.base = config.http.base.encode()
        self.jobs = self.base + b"/jobs/"
        self.batches = self.base + b"/batches/"
        self.tasks = self.base + b"/tasks/"
        self.engine = engine
        # The pages of other origins that may use this, None for none.
        self.origins = Origins(config.http.cors_origins, SENT, ACCEPTED) if config.http.cors_origins else None
        self.clock = Clock(b"" if self.origins is None else self.origins.vary)
        self.heads = Heads(self.clock, config.http, engine.durability)
        self.pages = CachedPages()
        self.clients = Clients(config.http.trusted_proxies, config.http.client_header)
        ids_tell = config.auth.reads == "id"
        tokens = None if config.auth.mode == "none" else Tokens(config.auth.file(os.environ), ids_tell=ids_tell)
        hosts = Hosts((*config.http.hosts, config.server.host), any_name=bool(tokens) and not config.http.hosts)
        self.guard = Guard(tokens, hosts, self.clients, ids_tell=ids_tell)
        # Preferences to wait that were ignored, since too many clients waited.
        self.waits_ignored = 0
        self.limits = limits(config, self.clients, lambda seconds: self.engine.retry_after_s(seconds))

    def use(self, engine: Engine) -> None:
        """Ask ``engine`` from now on."""
        self.engine = engine
        self.tick()

    def tick(self) -> None:
        """Make what the heads of this second have in common."""
        self.heads.tick(self.engine.durability)

    def all_requests(self) -> Counter[tuple[str, bytes]]:
        """Return the number of answers by (method and route, status code)."""
        counted = Counter(self.connections.requests)
        for state, count in enumerate(self.heads.polls):
            if count:
                counted["HEAD /jobs/{id}", b"%d" % self.heads.codes[state]] += count
        return counted


def once_known(soon: Soon[Value], then: Callable[[Value], Answer | Held]) -> Answer | Held:
    """Return the answer that ``then`` makes of a value, now or once it is known."""
    return later(soon, then) if isinstance(soon, Later) else then(soon)


def later(unknown: Later[Value], then: Callable[[Value], Answer | Held]) -> Held:
    """Return the answer that ``then`` makes of a value once it is known."""
    return Held(unknown, lambda: then(unknown.value()))
