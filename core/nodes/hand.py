"""A job in this node's hands: from the step that claimed it to the end of its attempt."""

from __future__ import annotations

from headway.core.job import Job


class Hand(Job, kw_only=True, gc=False):
    """A job with the attempt that this node makes at it."""

    # The number of the attempt, 1 for the first.
    attempt: int
    # The name of the node then, and the lane of the task: a digit of ``steps``.
    node: str
    lane: int
    # When it was claimed: of time.monotonic, and in ms of the store's clock.
    began: float
    began_ms: int
    # Whether its part of the limits is given back.
    is_released: bool = False

    def ended_s(self, now: float) -> float:
        """Return the time of the store's clock, in seconds, at ``now`` of time.monotonic."""
        return self.began_ms / 1000 + now - self.began
