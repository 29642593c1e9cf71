"""The first entries of a dict, whose first entries are taken out again and again.

A dict passes over all entries that were taken out at its front whenever it is asked for the first that is left: with
100,000 entries each such question takes up to 0.1 ms. So SOME are asked for at once.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from itertools import islice
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)

SOME = 256


class Oldest(Generic[Name]):
    """Tells which of ``entries`` came first, as long as none that is put in anew was there already."""

    def __init__(self, entries: Mapping[Name, object]) -> None:
        self._entries = entries
        # The oldest, the very first last.
        self._some: list[Name] = []

    def first(self) -> Name | None:
        """Return the name of the oldest entry; None where there is none."""
        some, entries = self._some, self._entries
        while some and some[-1] not in entries:
            some.pop()
        if not some:
            some.extend(islice(entries, SOME))
            some.reverse()
        return some[-1] if some else None

    def taken_out(self) -> None:
        """The oldest, as ``first`` has just told, is an entry no more, and may be put in anew."""
        self._some.pop()

    def look_again(self) -> None:
        """One that was there is put in anew."""
        self._some.clear()
