"""The state that routes share: the engine, the clock, heads of answers, the limits on clients."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from headway.core.config import Config
from headway.core.counted import Counted, together
from headway.core.interface import Engine, Soon
from headway.core.later import then
from headway.protocol.access.clients import Clients
from headway.protocol.access.guard import Guard
from headway.protocol.access.hosts import Hosts
from headway.protocol.access.limits import Rate, limits
from headway.protocol.access.origins import Origins
from headway.protocol.access.shared_rate import SharedRate
from headway.protocol.access.tokens import Tokens
from headway.protocol.api.fields import ACCEPTED, SENT
from headway.protocol.api.headers import Heads
from headway.protocol.api.page import CachedPages
from headway.protocol.http.clock import Clock
from headway.protocol.http.connections import Connections

# The name under which the polls of jobs are counted.
POLL = "HEAD /jobs/{id}"


class Shared(NamedTuple):
    """What a gateway has together with others: the file of their rates, what the others have counted, their parent."""

    rates_fd: int
    others: Callable[[], Soon[Counted]]
    supervisor: int


class Service:
    """The state of one server, apart from its sockets."""

    # The connections that it serves.
    connections: Connections

    def __init__(self, config: Config, engine: Engine, shared: Shared | None = None) -> None:
        self.config = config
        # Before the path of each route, and before the id or name in the URL of a job, batch or task.
        self.base = config.http.base.encode()
        self.jobs = self.base + b"/jobs/"
        self.batches = self.base + b"/batches/"
        self.tasks = self.base + b"/tasks/"
        self.engine = engine
        # The pages of other origins that may use this, None for none.
        self.origins = Origins(config.http.cors_origins, SENT, ACCEPTED) if config.http.cors_origins else None
        self.clock = Clock(b"" if self.origins is None else self.origins.always)
        self.heads = Heads(self.clock, config.http, engine.durability)
        self.pages = CachedPages()
        self.clients = Clients(config.http.trusted_proxies, config.http.client_header)
        ids_tell = config.auth.reads == "id"
        tokens = None if config.auth.mode == "none" else Tokens(config.auth.file(os.environ), ids_tell=ids_tell)
        hosts = Hosts((*config.http.hosts, config.server.host), any_name=bool(tokens) and not config.http.hosts)
        self.guard = Guard(tokens, hosts, self.clients, ids_tell=ids_tell)
        # Preferences to wait that were ignored, since too many clients waited.
        self.waits_ignored = 0
        make = Rate if shared is None else partial(SharedRate, shared.rates_fd)
        self.limits = limits(config, self.clients, lambda seconds: self.engine.retry_after_s(seconds), make)
        # What other gateways have counted.
        self.others: Callable[[], Soon[Counted]] = Counted if shared is None else shared.others
        # The parent of all parts of this server, 0 if it is one process.
        self.supervisor = 0 if shared is None else shared.supervisor

    def use(self, engine: Engine) -> None:
        """Ask ``engine`` from now on."""
        self.engine = engine
        self.tick()

    def tick(self) -> None:
        """Make what the heads of this second have in common."""
        self.heads.tick(self.engine.durability)

    def counted(self) -> Counted:
        """Return what was counted here of clients, for a sum with that of other gateways."""
        connections = self.connections
        ever = {f"requests {route} {code.decode()}": count for (route, code), count in self.all_requests().items()}
        ever |= {f"rejections {reason}": count for reason, count in connections.rejections.items()}
        ever |= {f"entries_failed {step}": count for step, count in connections.entries_failed.items()}
        ever |= {f"closed {why}": count for why, count in connections.closed.items()}
        ever["waits_ignored"] = self.waits_ignored
        now = {"connections": len(connections.open), "waiting": self.engine.waiting}
        for name, budget in (("unanswered", connections.unanswered), ("untaken", connections.untaken)):
            now[f"{name}_bytes"] = budget.used_bytes
            ever[f"{name}_ended"] = budget.gave_way
        return Counted(ever, now)

    def all_counted(self) -> Soon[Counted]:
        """Return what was counted of clients in all."""
        return then(self.others(), self._with_ours)

    def _with_ours(self, others: Counted) -> Counted:
        total = together([self.counted(), others])
        # Our own are among the engine's counts.
        total.now["waiting"] -= self.engine.waiting
        return total

    def all_requests(self) -> Counter[tuple[str, bytes]]:
        """Return the number of answers by (method and route, status code)."""
        counted = Counter(self.connections.requests)
        for state, count in enumerate(self.heads.polls):
            if count:
                counted[POLL, b"%d" % self.heads.codes[state]] += count
        return counted
