"""Deletes the rows of the file that retention has given up.

By number (the last ``retention.jobs`` of each outcome, the last ``idempotency.keys``) rows go with
the commit that brings their successors: twice as many as it brings, so the file keeps pace at any
speed of the disk. By time, and after a change of settings, rows go in slices of their own, when nothing
else is to be written.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

import apsw

# Rows of a slice: more after one that took less than SLICE_S, otherwise fewer.
SLICE_S = 0.004
SLICE_LEAST, SLICE_MOST = 16, 2000

# All look at the first of an index only, so their cost is bounded.
_BY_PLACE = """DELETE FROM job WHERE sequence IN
    (SELECT sequence FROM job WHERE state = ? AND place <= ? ORDER BY place LIMIT ?)"""
_BY_TIME = "DELETE FROM job WHERE sequence IN (SELECT sequence FROM job WHERE until <= ? ORDER BY until LIMIT ?)"
_KEYS_BY_NUMBER = "DELETE FROM keyed WHERE sequence IN (SELECT sequence FROM keyed WHERE sequence <= ? LIMIT ?)"
_KEYS_BY_TIME = """DELETE FROM keyed WHERE sequence IN (SELECT sequence FROM
    (SELECT sequence, submitted FROM keyed ORDER BY sequence LIMIT ?2) WHERE submitted < ?1)"""


class Expiry:
    """Deletes rows of ``connection``. The caller begins and ends the transaction."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        # By outcome: jobs up to this place were given up. Those of earlier runs, to begin with.
        self._places = given_up(connection)
        # Keys of jobs up to this number.
        self._key = 0
        # Jobs that are kept no longer than this, and keys older than this, of the journal's clock.
        self._kept_until = self._keys_before = -inf
        # Whether there may be more to delete, and whether by time.
        self.left = any(place > 0 for place in self._places.values())
        self._aged = False
        self.slice = 500

    def give_up(self, places: Sequence[int], key: int) -> None:
        """Have jobs deleted up to the place of their outcome, and keys of jobs up to number ``key``."""
        for state, place in self._places.items():
            if places[state] > place:
                self._places[state] = places[state]
                self.left = True
        if key > self._key:
            self._key = key
            self.left = True

    def give_up_before(self, until: float, keys: float) -> None:
        """Have jobs deleted that are kept no longer than ``until``, and keys older than a time."""
        self._kept_until, self._keys_before = until, keys
        self.left = self._aged = True

    def delete(self, most: int) -> tuple[int, int]:
        """Delete up to ``most`` rows of each kind. Return the number of jobs, and of all rows."""
        by_place = [self._delete(_BY_PLACE, state, place, most) for state, place in self._places.items() if place > 0]
        keys = self._delete(_KEYS_BY_NUMBER, self._key, most) if self._key > 0 else 0
        jobs, more = sum(by_place), max(*by_place, keys, 0) >= most
        if self._aged:
            aged, aged_keys = (
                self._delete(_BY_TIME, self._kept_until, most),
                self._delete(_KEYS_BY_TIME, self._keys_before, most),
            )
            self._aged = max(aged, aged_keys) >= most
            jobs, keys = jobs + aged, keys + aged_keys
        self.left = more or self._aged
        return jobs, jobs + keys

    def took(self, seconds: float) -> None:
        """Make the next slice smaller or larger after one that took this long."""
        self.slice = max(self.slice // 2, SLICE_LEAST) if seconds > SLICE_S else min(self.slice * 2, SLICE_MOST)

    def _delete(self, sql: str, *values: float) -> int:
        self._connection.execute(sql, values)
        return self._connection.changes()


def given_up(connection: apsw.Connection) -> dict[int, int]:
    """Return, by outcome, the place up to which earlier runs have given up their jobs."""
    found: list[Any] = connection.execute("SELECT state, max(given_up, place - kept) FROM outcome").fetchall()
    return dict(found)
