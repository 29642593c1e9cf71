"""The state of one run that its clients and links share.

Nothing is known of what is at the URL until the first answer of a Headway; an error before that ends the run. From then
on errors are counted and borne, until there has been nothing else for ``settings.patience`` seconds.
"""

from __future__ import annotations

import asyncio
import time

from headway.sim.figures import Figures
from headway.sim.policies import policy
from headway.sim.requests import Requests
from headway.sim.settings import Settings, SettingsError
from headway.sim.trace import Trace
from headway.sim.wheel import Wheel

# How errors that came before anything else are told.
FIRST = {
    "refused": "the connection is refused: is a server there? `headway serve` starts one",
    "reset": "the connection was closed without an answer: is this a Headway?",
    "timeout": "there is no answer within {timeout:g} s",
    "malformed": "what answers there does not speak HTTP",
}


class Run:
    """What is going on."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        # Where answers are written down, if anywhere.
        self.trace: Trace | None = None
        self.policy = policy(settings.poll)
        if self.policy.held_s and settings.connections:
            raise SettingsError(
                f"connections: {settings.connections} is not allowed with poll {settings.poll}: answers keep their "
                "order on a connection, so each that is held needs one of its own; leave it 0"
            )
        self.requests = Requests(settings, self.policy.fields, self.policy.batched)
        self.figures = Figures()
        self.wheel = Wheel(time.monotonic())
        # Where to connect to: address and port.
        self.address = ("", 0)
        # When the last answer and the last error came, of time.monotonic.
        self.heard = time.monotonic()
        self.erred = 0.0
        # A Headway has answered.
        self.recognised = asyncio.Event()
        # The time is up, a signal came, or the run cannot go on; then ``problem`` says why.
        self.over = asyncio.Event()
        self.problem: str | None = None

    @property
    def links_per_client(self) -> int:
        """How many connections a client has where it shares none: an answer that is held holds its connection too."""
        return self.settings.jobs if self.policy.held_s and not self.policy.batched else 1

    @property
    def links(self) -> int:
        """How many connections there are."""
        settings = self.settings
        return min(settings.connections, settings.clients) or settings.clients * self.links_per_client

    def connected(self) -> None:
        """A connection was made."""
        self.figures.connects += 1

    def failed(self, kind: str) -> None:
        """Something went wrong."""
        self.figures.error(kind)
        self.erred = time.monotonic()
        if not self.recognised.is_set():
            self.stop(FIRST.get(kind, f"the first answer was no good: {kind}").format(timeout=self.settings.timeout))

    def stop(self, problem: str) -> None:
        """The run cannot go on."""
        if not self.over.is_set():
            self.problem = f"{self.settings.target().url}: {problem}"
            self.over.set()

    def check(self, now: float) -> None:
        """Stop if there is nothing but errors; to be called now and then."""
        silence = now - self.heard
        if self.erred > self.heard and silence > self.settings.patience:
            self.stop(f"the server has gone: no answer for {silence:.0f} s, only errors")
