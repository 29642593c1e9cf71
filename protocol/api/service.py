"""The state that routes share: the engine, the clock, heads of answers, the limits on clients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from headway.core.config import Config
from headway.core.interface import Engine, Later, Soon
from headway.protocol.access.limits import limits
from headway.protocol.api.headers import Heads
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
        self.engine = engine
        self.clock = Clock()
        self.heads = Heads(self.clock, config.retention.seconds, config.http.failed_status, engine.durability)
        self.limits = limits(config, lambda seconds: self.engine.retry_after_s(seconds))

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
