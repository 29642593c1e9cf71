"""The places in a JSON value that do not fit a type, each with its fault.

msgspec stops at the first misfit and has no path into a dict. This is the slow road, for a short
value that was refused. It follows the type into objects and arrays and asks msgspec about each
part. A part of any other type, for instance of a union, is looked at as a whole.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, Final, NewType, NotRequired, Required, Union, get_args, get_origin, get_type_hints

import msgspec
from headway.core.faults import printable

# Characters of a fault.
FAULT_LONGEST = 200
UNIONS = {Union, type(int | str)}
# Said of a member, not of its type. ReadOnly is new in Python 3.13.
QUALIFIERS = {Required, NotRequired, Final, getattr(typing, "ReadOnly", Final)}
# The end of a message of msgspec: the place of the misfit.
_place = re.compile(r" - at `(?:key` in `)?\$(.*)`\Z", re.DOTALL)


class Members:
    """The members of an object: the type of each, those that are required, and whether others are refused."""

    __slots__ = ("closed", "kinds", "required")

    def __init__(self, kinds: dict[str, Any], required: Collection[str], closed: bool) -> None:
        self.kinds = kinds
        self.required = required
        self.closed = closed


def misfits(value: object, kind: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield (place, fault) for each part of ``value`` that does not fit ``kind``."""
    try:
        msgspec.convert(value, kind, str_keys=True)
    except BaseException as error:  # noqa: BLE001 — a __post_init__ of the user's may raise anything
        found = False
        for misfit in _within(value, bare(kind), place):
            found = True
            yield misfit
        if not found:
            yield misfit_of(error, place)


def misfit_of(error: BaseException, place: str) -> tuple[str, str]:
    """Return (place, fault) of an error that a decoder raised."""
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return place, line(f"{type(error).__name__}: {text}")
    at = _place.search(text)
    if at is None:
        return place, line(text)
    return place + printable(at[1]), line(text[: at.start()])


def line(text: str) -> str:
    """Return ``text`` as one line of at most FAULT_LONGEST characters."""
    return printable(text, FAULT_LONGEST)


def bare(kind: Any) -> Any:
    """Return ``kind`` without its names, its limits and its None."""
    while True:
        origin, options = get_origin(kind), get_args(kind)
        if origin in UNIONS:
            options = tuple(option for option in options if option is not type(None))
            if len(options) != 1:
                return kind
        if isinstance(kind, NewType):
            kind = kind.__supertype__
        elif hasattr(kind, "__value__"):
            # ``type Name = …`` of Python 3.12.
            kind = kind.__value__
        elif origin is Annotated or origin in UNIONS:
            kind = options[0]
        else:
            return kind


def _within(value: object, kind: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        members = members_of(kind)
        if members is not None:
            yield from _in_members(value, members, place)
        elif _is_a(get_origin(kind), Mapping) and get_args(kind):
            of = get_args(kind)[1]
            for name, part in value.items():
                yield from misfits(part, of, f"{place}.{printable(name)}")
    elif isinstance(value, list):
        yield from _in_items(value, kind, place)


def _in_members(value: dict[str, object], members: Members, place: str) -> Iterator[tuple[str, str]]:
    for name, part in value.items():
        where = f"{place}.{printable(name)}"
        if name in members.kinds:
            yield from misfits(part, members.kinds[name], where)
        elif members.closed:
            yield where, f"unknown; allowed here: {', '.join(members.kinds)}"
    for name in members.kinds:
        if name in members.required and name not in value:
            yield f"{place}.{name}", "is required"


def _in_items(value: list[object], kind: Any, place: str) -> Iterator[tuple[str, str]]:
    origin, kinds = get_origin(kind), get_args(kind)
    if not _is_a(origin, Collection) or _is_a(origin, Mapping) or not kinds:
        return
    if origin is not tuple or kinds[1:] == (...,):
        kinds = (kinds[0],) * len(value)
    for index, (part, of) in enumerate(zip(value, kinds, strict=False)):
        yield from misfits(part, of, f"{place}[{index}]")


def members_of(kind: Any) -> Members | None:
    """Return the members of a Struct, a dataclass or a TypedDict. None for any other type."""
    named = get_origin(kind) or kind
    if not isinstance(named, type):
        return None
    if issubclass(named, msgspec.Struct):
        return _of_struct(kind, named.__struct_config__)
    if is_typed_dict(named):
        return Members(_hints(named), getattr(named, "__required_keys__", ()), closed=False)
    if dataclasses.is_dataclass(named):
        kinds = _hints(named)
        fields = [field for field in dataclasses.fields(named) if field.init]
        missing = dataclasses.MISSING
        required = {field.name for field in fields if field.default is missing and field.default_factory is missing}
        return Members({field.name: kinds[field.name] for field in fields}, required, closed=False)
    return None


def is_typed_dict(kind: type) -> bool:
    """Whether ``kind`` is a TypedDict, of the standard library or of typing_extensions."""
    return issubclass(kind, dict) and hasattr(kind, "__required_keys__")


def _hints(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    for name in hints:
        while get_origin(hints[name]) in QUALIFIERS:
            hints[name] = get_args(hints[name])[0]
    return hints


def _of_struct(kind: Any, config: msgspec.structs.StructConfig) -> Members | None:
    if config.array_like:
        return None
    fields = msgspec.structs.fields(kind)
    kinds = {field.encode_name: field.type for field in fields}
    if config.tag_field is not None:
        kinds[config.tag_field] = Any
    return Members(kinds, {field.encode_name for field in fields if field.required}, config.forbid_unknown_fields)


def _is_a(origin: Any, kind: type) -> bool:
    return isinstance(origin, type) and issubclass(origin, kind)
