"""The query of a request target, as members to be checked against a struct."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from headway.core.errors import InvalidError
from headway.core.faults import faults, few

# More than any route knows.
MEMBERS_MOST = 64
# Longer numbers are over any limit, and stay text.
_whole = re.compile(r"[0-9]{1,20}", re.ASCII).fullmatch
# As JSON writes them: clients print small and large numbers with an exponent.
_decimal = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", re.ASCII).fullmatch

OR_NULL = " or null"

Query = TypeVar("Query", bound=msgspec.Struct)
Given = int | float | str | list[str]


def members(target: bytes, lists: Collection[str] = (), texts: Collection[str] = ()) -> dict[str, Given]:
    """Return the members of a query, numbers as such.

    ``lists`` may be given more than once, and have several values with commas between. A comma that
    is percent-encoded belongs to a value. ``texts`` stay text if they look like a number. Raises
    InvalidError for another name that is given twice.
    """
    found: dict[str, Given] = {}
    twice: dict[str, None] = {}
    fields = target.partition(b"?")[2].split(b"&")
    if len(fields) > MEMBERS_MOST:
        raise InvalidError([("", f"a query has at most {MEMBERS_MOST} members")])
    for field in filter(None, fields):
        coded, _, value = field.partition(b"=")
        name = _text(coded)
        if name in lists:
            values = [_text(one) for one in value.split(b",")]
            before = found.setdefault(name, [])
            assert isinstance(before, list)
            before += values
        elif name in found:
            twice[name] = None
        else:
            found[name] = _text(value) if name in texts else _value(_text(value))
    if twice:
        raise InvalidError(few((name, "is given more than once") for name in twice))
    return found


def read(target: bytes, kind: type[Query], lists: Collection[str] = (), texts: Collection[str] = ()) -> Query:
    """Return the query of a request target as the struct ``kind``. Raises InvalidError."""
    found = members(target, lists, texts)
    try:
        return msgspec.convert(found, kind)
    except (msgspec.ValidationError, OverflowError):
        wrong = few(faults(kind, found))
        # No query can have null, by which the types say that a member may be left out.
        raise InvalidError([(name, fault.removesuffix(OR_NULL)) for name, fault in wrong]) from None


def _text(coded: bytes) -> str:
    return unquote_to_bytes(coded.replace(b"+", b" ")).decode(errors="replace")


def _value(text: str) -> int | float | str:
    if _whole(text):
        return int(text)
    return float(text) if _decimal(text) else text
