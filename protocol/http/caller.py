"""Who sends a request. The application says so, and HTTP only carries it: ``access`` knows what a scope allows."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Caller(msgspec.Struct, frozen=True):
    """The bearer of a token, or anyone without one.

    ``name`` is that of the token, empty without one. ``tasks`` are those that it may submit: None for all.
    ``sees_ids``: it may learn the ids of jobs that it has not submitted. Otherwise a list has them without the tag.
    """

    name: str = ""
    scopes: frozenset[str] = frozenset()
    tasks: frozenset[str] | None = None
    sees_ids: bool = False
    # False: it has sent a token that nobody has.
    is_known: bool = True

    def has(self, scopes: Iterable[str]) -> bool:
        """Whether it has one of ``scopes``."""
        return not self.scopes.isdisjoint(scopes)


# A client without a token, where there are tokens, and one with a token that nobody has.
NOBODY = Caller()
UNKNOWN = Caller(is_known=False)
