"""The state of one run that its clients and links share.

Nothing is known of the server at the URL until the first answer of a Headway. An error before that
ends the run. Later errors are counted, and the run goes on until there was nothing else for
``settings.patience`` seconds.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time

from headway.sim.figures import Figures
from headway.sim.policies import policy
from headway.sim.requests import VARIABLE, Requests
from headway.sim.settings import CrowdSettings, SettingsError
from headway.sim.trace import Trace
from headway.sim.wheel import Wheel

# The texts for errors that came before anything else.
FIRST = {
    "refused": "the connection is refused: is a server there? `headway serve` starts one",
    "reset": "the connection was closed without an answer: is this a Headway?",
    "timeout": "there is no answer within {timeout:g} s",
    "malformed": "the server does not speak HTTP",
}


class Run:
    """A run while it goes on."""

    def __init__(self, settings: CrowdSettings) -> None:
        self.settings = settings
        # The file for answers, if there is one.
        self.trace: Trace | None = None
        self.policy = policy(settings.poll)
        if self.policy.held_s and settings.connections:
            raise SettingsError(
                f"connections: {settings.connections} is not allowed with poll {settings.poll}: answers keep their "
                "order on a connection, so each that waits needs one of its own: leave it 0"
            )
        token = os.environ.get(VARIABLE, "")
        self.requests = Requests(settings, self.policy.fields, self.policy.batched, token)
        self.figures = Figures()
        self.wheel = Wheel(time.monotonic())
        # Where to connect to: address and port.
        self.address = ("", 0)
        # The CAs of the system, or of SSL_CERT_FILE. None for plain HTTP.
        self.tls = ssl.create_default_context() if settings.target().scheme == "https" else None
        # When the last answer and the last error came, of time.monotonic.
        self.heard = time.monotonic()
        self.erred = 0.0
        # A Headway has answered.
        self.recognised = asyncio.Event()
        # The time is up, a signal came, or the run cannot go on. If it cannot, ``problem`` says
        # why.
        self.over = asyncio.Event()
        self.problem: str | None = None

    @property
    def links_per_client(self) -> int:
        """Connections of a client that shares none. A waiting answer keeps its connection."""
        return self.settings.jobs if self.policy.held_s and not self.policy.batched else 1

    @property
    def links(self) -> int:
        """The number of connections."""
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
            self.stop(FIRST.get(kind, f"the first answer is no good: {kind}").format(timeout=self.settings.timeout))

    def stop(self, problem: str) -> None:
        """The run cannot go on."""
        if not self.over.is_set():
            self.problem = f"{self.settings.target().url}: {problem}"
            self.over.set()

    def check(self, now: float) -> None:
        """Stop if there is nothing but errors. To be called now and then."""
        silence = now - self.heard
        if self.erred > self.heard and silence > self.settings.patience:
            self.stop(f"the server has gone: no answer for {silence:.0f} s, only errors")
