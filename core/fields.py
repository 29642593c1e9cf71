"""What is wrong with the members of a mapping that should be a struct: each fault, not only the first.

msgspec's own decoder stops at the first fault, which is what the fast road wants; this is the slow road, taken
once something is known to be wrong, for answers that a person can act on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from reprlib import Repr
from typing import Any, get_type_hints

import msgspec

# A value in a message is shown up to this many characters.
SHOWN = 60
# Whatever the depth and size of a value, its text is short.
_brief = Repr()
_brief.maxlevel = 3
_brief.maxstring = _brief.maxother = SHOWN


def faults(kind: type[msgspec.Struct], members: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (field, fault) for each member of ``members`` that ``kind`` does not allow."""
    types = _types(kind)
    for name, value in members.items():
        if name not in types:
            yield f"{prefix}{_printable(name)}", f"unknown; allowed here: {', '.join(types)}"
            continue
        if types[name] is msgspec.Raw:
            continue
        try:
            msgspec.convert(value, types[name])
        except (msgspec.ValidationError, OverflowError) as error:
            allowed = str(error).split(" - at ")[0].replace("`", "")
            yield f"{prefix}{name}", f"{_shown(value)} is not allowed: {allowed[0].lower()}{allowed[1:]}"


@cache
def _types(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _shown(value: object) -> str:
    text = _printable(_brief.repr(value))
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _printable(name: object) -> str:
    """``name`` as text that UTF-8 can hold, cut to a length that can be shown."""
    return str(name)[:SHOWN].encode(errors="backslashreplace").decode()
