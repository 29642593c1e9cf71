"""How many finished jobs are kept, and for how long, by their outcome.

Each outcome has a bound of its own, so a flood of successes evicts no failure. Lists here and on the
board are by State, and 0 for states that are no outcome.
"""

from __future__ import annotations

from typing import NamedTuple

from headway.core.config import RetentionSection
from headway.core.job import TERMINAL, State

# A failure is read the next morning, or after a holiday.
FAILED_SECONDS = 7 * 86_400.0


class Retention(NamedTuple):
    """The last so many jobs of an outcome are kept, each for so many seconds if it has no ``keep``."""

    jobs: tuple[int, ...]
    seconds: tuple[float, ...]

    @classmethod
    def same(cls, jobs: int, seconds: float) -> Retention:
        """Return the same bounds for all outcomes."""
        is_outcome = [state in TERMINAL for state in State]
        return cls(tuple(jobs * is_one for is_one in is_outcome), tuple(seconds * is_one for is_one in is_outcome))

    @classmethod
    def of(cls, settings: RetentionSection) -> Retention:
        """Return the bounds that the settings name, by default those of all outcomes."""
        default = cls.same(settings.jobs, settings.seconds)
        jobs, seconds = list(default.jobs), list(default.seconds)
        seconds[State.FAILED] = max(settings.seconds, FAILED_SECONDS)
        for state, own in (
            (State.SUCCEEDED, settings.succeeded),
            (State.FAILED, settings.failed),
            (State.CANCELLED, settings.cancelled),
        ):
            if own.jobs is not None:
                jobs[state] = own.jobs
            if own.seconds is not None:
                seconds[state] = own.seconds
        return cls(tuple(jobs), tuple(seconds))


DEFAULT = Retention.of(RetentionSection())
