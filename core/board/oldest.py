"""The first entries of a dict that loses its first entries again and again.

To find its first entry, a dict passes over all entries that were taken out at its front. With
100,000 entries each such search takes up to 0.1 ms. So SOME entries are read at once.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import islice
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)

SOME = 256


class Oldest(Generic[Name]):
    """Finds the oldest of ``entries``. If one is put in again, ``look_again`` must be called."""

    def __init__(self, entries: Mapping[Name, object]) -> None:
        self._entries = entries
        # The oldest entries, the very first last.
        self._some: list[Name] = []

    def first(self) -> Name | None:
        """Return the name of the oldest entry, None if there is none."""
        some, entries = self._some, self._entries
        while some and some[-1] not in entries:
            some.pop()
        if not some:
            some.extend(islice(entries, SOME))
            some.reverse()
        return some[-1] if some else None

    def taken_out(self) -> None:
        """The entry that ``first`` has just returned was taken out, and may be put in again."""
        self._some.pop()

    def look_again(self) -> None:
        """An entry that was there is put in again."""
        self._some.clear()
