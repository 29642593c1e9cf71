"""The loads that every server gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.measure import Load
from bench.peers.catalogue import NGINX, Peer


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of load; ``state`` is that of the job that is polled, empty for POST."""

    name: str
    connections: int
    state: str = ""
    generator: str = "heads"
    # Names of the peers it is for; empty for all.
    only: Sequence[str] = ()
    # The most that it may cost, in times of nginx.
    limit: float = 0.0

    def suits(self, peer: Peer) -> bool:
        """Whether the peer can be asked so."""
        return (not self.only or peer.name in self.only) and (
            peer is NGINX or not self.state or self.state in peer.states
        )


# In this order: once a job is brought into ``queued``, all workers are taken.
CASES = (
    Case("POST of a no-op, executed, 64 connections", 64, generator="wrk", limit=3.0),
    Case("HEAD of a finished job, 64 connections", 64, "finished", limit=1.25),
    Case("HEAD of a finished job, 1,000 connections", 1000, "finished"),
    Case("HEAD of a running job, 64 connections", 64, "running", only=["nginx", "Headway"], limit=1.25),
    Case("HEAD of a queued job, 64 connections", 64, "queued", only=["nginx", "Headway"], limit=1.25),
    Case("HEAD by wrk, 64 connections (nginx alone can)", 64, "finished", "wrk", only=["nginx"]),
)
# Loads by case and by peer, one for each round.
Results = dict[str, dict[str, list[Load]]]
