"""What is to happen when, for millions of items: two wheels of arrays.

Time is cut into steps. Items of the current round of ROUND steps stand in the list of their step, those of later rounds
in the list of their round, to be dealt out when it begins; so an item is sorted twice, whatever its distance, and each
operation is one on whole arrays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]
Items = NDArray[np.int64]
# Steps of one round, as bits.
ROUND_BITS = 6

_Wheel = dict[int, list[tuple[Times, Items]]]


class Agenda:
    """Items by time, in seconds; taken a step of ``step_s`` at a time."""

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._now = 0
        self._steps: _Wheel = {}
        self._rounds: _Wheel = {}

    def add(self, times: Times, items: Items) -> None:
        """Have ``items`` taken at ``times``; what is past is taken in the next step."""
        if not len(times):
            return
        steps = np.maximum((times / self._step_s).astype(np.int64), self._now)
        soon = steps >> ROUND_BITS == self._now >> ROUND_BITS
        if soon.any():
            _deal(self._steps, steps[soon], times[soon], items[soon])
        if not soon.all():
            later = ~soon
            _deal(self._rounds, steps[later] >> ROUND_BITS, times[later], items[later])

    def take(self) -> tuple[Times, Items]:
        """Return what is due in this step, in order, and go on to the next."""
        due = self._steps.pop(self._now, [])
        self._now += 1
        if not self._now & (1 << ROUND_BITS) - 1:
            for times, items in self._rounds.pop(self._now >> ROUND_BITS, []):
                _deal(self._steps, (times / self._step_s).astype(np.int64), times, items)
        if not due:
            return np.empty(0), np.empty(0, np.int64)
        times = np.concatenate([times for times, _ in due])
        items = np.concatenate([items for _, items in due])
        order = np.argsort(times, kind="stable")
        return times[order], items[order]


def _deal(wheel: _Wheel, places: Items, times: Times, items: Items) -> None:
    """Put each of ``items`` in its place on ``wheel``."""
    if (places == places[0]).all():
        wheel.setdefault(int(places[0]), []).append((times, items))
        return
    order = np.argsort(places, kind="stable")
    places, times, items = places[order], times[order], items[order]
    bounds = [0, *(np.flatnonzero(places[1:] != places[:-1]) + 1).tolist(), len(places)]
    for place, start, end in zip(places[bounds[:-1]].tolist(), bounds[:-1], bounds[1:], strict=True):
        wheel.setdefault(place, []).append((times[start:end], items[start:end]))
