"""All faults in the members of a mapping that should be a struct, not only the first.

msgspec's own decoder stops at the first fault, which suits the fast road. This is the slow road,
taken once a fault is known, for answers that a person can act on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import islice
from reprlib import Repr
from typing import Any, get_type_hints

import msgspec
from msgspec import inspect

# Characters of a name or a value that a message shows.
SHOWN = 60
# The most faults to look for: each costs several microseconds, and a body can have a hundred
# thousand.
FAULTS_MOST = 20
# JSON up to this length and this number of values is decoded again if it is wrong, in less than a
# millisecond.
SHORT_BYTES = 64 * 1024
VALUES_MOST = 4000
# What a value is, in the words of JSON and YAML.
KINDS = {dict: "an object", list: "an array", str: "a text", bool: "a boolean", int: "a number", float: "a number"}


class _Brief(Repr):
    """The text of a value as JSON and YAML have it, short at any depth and size of the value."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = SHOWN

    def repr_bool(self, value: bool, _: int) -> str:
        return "true" if value else "false"

    def repr_NoneType(self, _: None, __: int) -> str:  # noqa: N802 — it is found by the name of the type
        return "null"


_brief = _Brief()


def faults(kind: type[msgspec.Struct], members: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (field, fault) for each member of ``members`` that ``kind`` does not allow."""
    types = member_types(kind)
    for name, value in members.items():
        if name not in types:
            yield f"{prefix}{printable(name)}", f"unknown; allowed here: {', '.join(types)}"
            continue
        if types[name] is msgspec.Raw:
            continue
        try:
            msgspec.convert(value, types[name])
        except (msgspec.ValidationError, OverflowError):
            yield (
                f"{prefix}{name}",
                f"{_shown(value)} is not allowed: expected {_allowed(types[name])}",
            )


def is_short(body: bytes) -> bool:
    """Whether JSON is short enough to be looked through for more than its first fault."""
    return len(body) <= SHORT_BYTES and sum(map(body.count, (b",", b"[", b"{"))) <= VALUES_MOST


def few(found: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the first FAULTS_MOST of ``found`` and look for no more."""
    return list(islice(found, FAULTS_MOST))


def not_one_of(shown: str, known: Iterable[str]) -> str:
    """Return the fault of a name, as it is ``shown``, that is not one of the ``known`` ones."""
    return f"{shown} is not one of: {', '.join(sorted(known)) or 'none'}"


def allowed(kind: type[msgspec.Struct], name: str) -> str:
    """Return in words the values that ``kind`` allows in ``name``, or "" if it has no such member."""
    types = member_types(kind)
    return "" if types.get(name, msgspec.Raw) is msgspec.Raw else _allowed(types[name])


@cache
def member_types(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the type of each member of ``kind``, with its limits. What its class alone has is no member."""
    types = get_type_hints(kind, include_extras=True)
    return {field.encode_name: types[field.name] for field in msgspec.structs.fields(kind)}


def _allowed(kind: Any) -> str:
    """Return in words the values of this type."""
    info = inspect.type_info(kind)
    options = info.types if isinstance(info, inspect.UnionType) else (info,)
    return " or ".join(_words(option) for option in options)


def _words(info: inspect.Type) -> str:
    match info:
        case inspect.Metadata():
            return str((info.extra_json_schema or {})["description"])
        case inspect.LiteralType():
            return f"one of {', '.join(map(str, info.values))}"
        case inspect.IntType():
            return f"a whole number{_range(info)}"
        case inspect.FloatType():
            return f"a number{_range(info)}"
        case inspect.StrType():
            if info.max_length:
                return f"a text of {info.min_length} to {info.max_length} characters"
            if info.pattern:
                return f"a text of the form {info.pattern}"
            return "a text that is not empty" if info.min_length else "a text"
        case inspect.BoolType():
            return "true or false"
        case inspect.NoneType():
            return "null"
        case _:
            return "a list of texts"


def _range(info: inspect.IntType | inspect.FloatType) -> str:
    if info.gt is not None:
        return f" above {info.gt:g} and up to {info.le}"
    return f" from {info.ge} to {info.le}"


def _shown(value: object) -> str:
    try:
        return printable(_brief.repr(value))
    except ValueError:
        # Python prints no whole number of more than 4,300 digits.
        return "a whole number of thousands of digits"


def kind_of(value: object) -> str:
    """Return in words what ``value`` is."""
    return "null" if value is None else KINDS.get(type(value), "a value")


def printable(name: object, longest: int = SHOWN) -> str:
    """Return ``name`` as one line that UTF-8 can hold, cut to a length that can be shown."""
    text = str(name)
    cut = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:longest])
    return cut if len(text) <= longest else f"{cut}…"
