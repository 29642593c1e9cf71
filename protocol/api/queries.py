"""The query of a request target, as members to be checked against a struct."""

from __future__ import annotations

import re
from collections import Counter
from urllib.parse import parse_qsl

from headway.core.errors import InvalidError
from headway.core.faults import few

# More than any route knows.
MEMBERS_MOST = 64
# Longer numbers are over any limit, and stay text.
_whole = re.compile(r"[0-9]{1,20}", re.ASCII).fullmatch
# As JSON writes them: clients print small and large numbers with an exponent.
_decimal = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", re.ASCII).fullmatch


def members(target: bytes) -> dict[str, int | float | str]:
    """Return the members of a query, numbers as such. Raises InvalidError for a name that is given twice."""
    query = target.partition(b"?")[2].decode("latin-1")
    try:
        given = parse_qsl(query, keep_blank_values=True, max_num_fields=MEMBERS_MOST)
    except ValueError:
        raise InvalidError([("", f"a query has at most {MEMBERS_MOST} members")]) from None
    found = {name: _value(text) for name, text in given}
    if len(found) < len(given):
        counts = Counter(name for name, _ in given)
        raise InvalidError(few((name, "is given more than once") for name in found if counts[name] > 1))
    return found


def _value(text: str) -> int | float | str:
    if _whole(text):
        return int(text)
    return float(text) if _decimal(text) else text
