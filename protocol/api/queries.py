"""The query of a request target, as members to be checked against a struct."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

from headway.core.errors import InvalidError
from headway.core.faults import few

# Longer numbers are over any limit, and stay text.
_whole = re.compile(r"[0-9]{1,20}", re.ASCII).fullmatch
# As JSON writes them: clients print small and large numbers with an exponent.
_decimal = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", re.ASCII).fullmatch


def members(target: bytes) -> dict[str, int | float | str]:
    """Return the members of a query, numbers as such. Raises InvalidError for a name that is given twice."""
    given = parse_qsl(target.partition(b"?")[2].decode("latin-1"), keep_blank_values=True)
    found = {name: _value(text) for name, text in given}
    if len(found) < len(given):
        names = [name for name, _ in given]
        raise InvalidError(few((name, "is given more than once") for name in found if names.count(name) > 1))
    return found


def _value(text: str) -> int | float | str:
    if _whole(text):
        return int(text)
    return float(text) if _decimal(text) else text
