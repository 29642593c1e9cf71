"""Deletes the rows of the file that retention has given up.

By number (the last ``retention.jobs`` that ended, the last ``idempotency.keys``) rows go with the
commit that brings their successors: twice as many as it brings, so the file keeps pace at any speed
of the disk. By time, and after a change of settings, rows go in slices of their own, when nothing
else is to be written.
"""

from __future__ import annotations

from math import inf

import apsw

# Rows of a slice: more after one that took less than SLICE_S, otherwise fewer.
SLICE_S = 0.004
SLICE_LEAST, SLICE_MOST = 16, 2000

# Both look at the oldest only, so their cost is bounded. The order of ``place`` is that of the
# ends.
_BY_PLACE = "DELETE FROM job WHERE sequence IN (SELECT sequence FROM job WHERE place <= ? ORDER BY place LIMIT ?)"
_BY_TIME = """DELETE FROM job WHERE sequence IN (SELECT sequence FROM
    (SELECT sequence, ended FROM job WHERE place IS NOT NULL ORDER BY place LIMIT ?2) WHERE ended < ?1)"""
_KEYS_BY_NUMBER = "DELETE FROM keyed WHERE sequence IN (SELECT sequence FROM keyed WHERE sequence <= ? LIMIT ?)"
_KEYS_BY_TIME = """DELETE FROM keyed WHERE sequence IN (SELECT sequence FROM
    (SELECT sequence, submitted FROM keyed ORDER BY sequence LIMIT ?2) WHERE submitted < ?1)"""


class Expiry:
    """Deletes rows of ``connection``. The caller begins and ends the transaction."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        # Jobs that ended at this place or earlier, and keys of jobs up to this number.
        self._place = self._key = 0
        # Jobs that ended before this time, and keys older than this one, of the journal's clock.
        self._ended_before = self._keys_before = -inf
        # Whether there may be more to delete, and whether by time.
        self.left = self._aged = False
        self.slice = 500

    def give_up(self, place: int, key: int) -> None:
        """Have jobs deleted up to the ``place``-th to end, and keys of jobs up to number ``key``."""
        if place > self._place or key > self._key:
            self._place, self._key = max(place, self._place), max(key, self._key)
            self.left = True

    def give_up_before(self, ended: float, keys: float) -> None:
        """Have jobs deleted that ended before a time, and keys older than one."""
        self._ended_before, self._keys_before = ended, keys
        self.left = self._aged = True

    def delete(self, most: int) -> tuple[int, int]:
        """Delete up to ``most`` rows of each kind. Return the number of jobs, and of all rows."""
        jobs = self._delete(_BY_PLACE, self._place, most) if self._place > 0 else 0
        keys = self._delete(_KEYS_BY_NUMBER, self._key, most) if self._key > 0 else 0
        more = max(jobs, keys) >= most
        if self._aged:
            aged, aged_keys = (
                self._delete(_BY_TIME, self._ended_before, most),
                self._delete(_KEYS_BY_TIME, self._keys_before, most),
            )
            self._aged = max(aged, aged_keys) >= most
            jobs, keys = jobs + aged, keys + aged_keys
        self.left = more or self._aged
        return jobs, jobs + keys

    def took(self, seconds: float) -> None:
        """Make the next slice smaller or larger after one that took this long."""
        self.slice = max(self.slice // 2, SLICE_LEAST) if seconds > SLICE_S else min(self.slice * 2, SLICE_MOST)

    def _delete(self, sql: str, bound: float, most: int) -> int:
        self._connection.execute(sql, (bound, most))
        return self._connection.changes()
