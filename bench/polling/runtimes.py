"""How long the jobs of the model run."""

from __future__ import annotations

import numpy as np

from bench.polling.agenda import Times
from bench.polling.scenario import Scenario

# Draws are made for so many at once, of as many series as take turns and all their parts.
BLOCKS = 64


class RunTimes:
    """Draws run times, evenly spread; for a sampled crowd so that sums of them are as well known as for all of it.

    The mean of n draws is off by the deviation of one over √n, that of the n·k jobs for which they stand by the
    deviation over √(n·k). So draws are stratified (Cochran, Sampling Techniques, ch. 5): of a series of √k draws each
    is from another one of √k equal parts of the range, in random order. Within a part the deviation is √k times
    smaller; so the queue moves as evenly as that of the whole crowd, and each job is as uncertain as ever.

    As many series as a batch has jobs take turns, since these start in a row: of one series, no two of them would be
    alike, and the last would end later than it does.
    """

    def __init__(self, scenario: Scenario, random: np.random.Generator) -> None:
        self._random = random
        self._shortest, self._longest = scenario.job_seconds
        self._slow = scenario.slow
        self._series = scenario.jobs
        self._alike = scenario.each - 1
        self._strata = max(round(scenario.each**0.5), 1)
        self._drawn = np.empty(0)

    def draw(self, started: Times) -> Times:
        """Return how long the jobs run that started then."""
        while len(self._drawn) < len(started):
            self._drawn = np.concatenate([self._drawn, self._stratified()])
        drawn, self._drawn = self._drawn[: len(started)], self._drawn[len(started) :]
        return drawn * self._factor(started)

    def alike(self, started: Times) -> Times:
        """Return for each job that started then, in a row, how long the others ran for which it stands."""
        shape = len(started), self._alike
        return self._random.uniform(self._shortest, self._longest, shape) * self._factor(started)[:, None]

    def _stratified(self) -> Times:
        strata = self._strata
        ordered = np.broadcast_to(np.arange(strata), (BLOCKS, self._series, strata))
        parts = self._random.permuted(ordered, axis=2).swapaxes(1, 2).ravel()
        width = (self._longest - self._shortest) / strata
        drawn: Times = self._shortest + width * (parts + self._random.random(len(parts)))
        return drawn

    def _factor(self, started: Times) -> Times:
        """By how much jobs take longer that start while the consumer is slow."""
        slow, fast, factor = self._slow
        return np.where((slow <= started) & (started < fast), factor, 1.0)
