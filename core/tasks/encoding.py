"""JSON of any size, a slice at a time.

orjson holds the interpreter from the first byte to the last: 5 million numbers hold it, and with it
the event loop, for 0.1 s, in whichever thread they are encoded. So a value is weighed first. A
light one goes to orjson whole, which is the usual case. A heavy one is cut along its containers
into slices of at most SLICE_WEIGHT. Between two slices another thread may have the interpreter, the
loop may have a turn, and a reader that has enough may stop.

The bytes are those of ``orjson.dumps`` but for NaN and Infinity: orjson writes null for them, and
they are refused here. Types that orjson does not know are opened a level at a time, as msgspec
writes them: a Struct, a set, a Decimal, bytes. A model of pydantic is dumped by itself, whole.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from math import isfinite
from typing import Any, NoReturn

import msgspec
import orjson

# About the bytes of a slice: a number counts as NUMBER_WEIGHT, a str as its length. A slice takes
# 0.2 ms at most.
# Seam: tests make it small, so that small values are cut as well.
SLICE_WEIGHT = 1 << 16
NUMBER_WEIGHT = 8
OTHER_WEIGHT = 64
# Levels of containers in containers: the limit of orjson.
DEPTH_MOST = 254
RECURSION = "Recursion limit reached"
DEEP = f"it is nested more than {DEPTH_MOST} deep"
TOO_DEEP = f"is not JSON: {DEEP}"
# Characters of the place of a number, and of each key in it.
PLACE_LONGEST = 200
KEY_LONGEST = 40

# Types of which each value weighs the same.
FLAT = frozenset({int, float, bool, type(None)})
FINITE = frozenset({int, bool, type(None), str})
# Collections that are arrays in JSON, besides lists. A tuple: a union would be made at each look.
ARRAYS = (tuple, set, frozenset, deque)
# Whole numbers that orjson writes are below this, and not below its half as a negative number.
TOO_LARGE = 1 << 64

Place = tuple[object, ...]


class NotJsonError(ValueError):
    """JSON has no such value. The message names it."""


def dumps(value: object) -> bytes | None:
    """Return the JSON of a light value, None for a heavy one.

    Raises NotJsonError if a light value has no JSON.
    """
    return _dumps(value, (), 0) if type(value) in FLAT or _weigh(value, SLICE_WEIGHT, 0) >= 0 else None


def slices(value: object) -> Iterator[bytes]:
    """Return the JSON of a heavy value in pieces.

    Raises NotJsonError at the first part that has no JSON.
    """
    return _cut(value, (), 0)


def _dumps(value: object, place: Place, first: int) -> bytes:
    """Return the JSON of a light value.

    If it is a part of an array, ``first`` is the index of its first element.
    """
    found: list[object] | None = None
    try:
        body = orjson.dumps(value)
    except (TypeError, RecursionError):
        try:
            body = _dumps_any(value)
        except NotJsonError:
            # A Decimal that is none has a place, too. A model that cannot be dumped is told as it is.
            with suppress(Exception):
                found = _not_finite(value, first)
            if found is not None:
                _refuse(found, place)
            fault = None
            with suppress(Exception):
                fault = _fault(value, first, 0)
            if fault is None:
                raise
            what, *within = fault
            raise NotJsonError(f"is not JSON: {what}{_pointer((*place, *within))}") from None
    if b"null" in body:
        _refuse_not_finite(value, place, first)
    return body


def _dumps_any(value: object) -> bytes:
    """Return the JSON of a light value that has types, names or numbers that orjson does not take by itself."""
    try:
        try:
            return orjson.dumps(value, default=_known)
        except TypeError as error:
            if "Dict key" not in str(error) and "64-bit" not in str(error):
                raise
        try:
            body = orjson.dumps(value, default=_known, option=orjson.OPT_NON_STR_KEYS)
        except TypeError as error:
            if "64-bit" not in str(error):
                raise
            body = orjson.dumps(_with_large_numbers(value), default=_known, option=orjson.OPT_NON_STR_KEYS)
    except Exception as error:  # noqa: BLE001 — a model of the user's may raise anything
        text = str(error.__cause__ or error)
        raise NotJsonError(TOO_DEEP if text == RECURSION else f"is not JSON: {text}") from None
    # orjson writes the keys 1 and "1" alike.
    fault = _fault(value, 0, 0)
    if fault is not None:
        raise NotJsonError(f"is not JSON: {fault[0]}")
    return body


def _known(value: Any) -> object:
    """Return a value of a type that orjson does not know as one that it knows, with its parts as they are."""
    if isinstance(value, msgspec.Struct):
        return _members(value)
    if isinstance(value, ARRAYS):
        return list(value)
    if _is_model(value):
        return value.model_dump(mode="json")
    if isinstance(value, Decimal) and not value.is_finite():
        raise TypeError(f"{value}")
    try:
        return msgspec.to_builtins(value)
    except TypeError:
        raise TypeError(f"Type is not JSON serializable: {type(value).__name__}") from None


def _is_model(value: object) -> bool:
    """Whether ``value`` is a model of pydantic."""
    return hasattr(value, "__pydantic_serializer__") and hasattr(value, "model_dump")


def _members(value: msgspec.Struct) -> dict[str, object] | list[object]:
    """Return a Struct as msgspec writes it, with its parts as they are."""
    config = value.__struct_config__
    members: list[tuple[str, object]] = []
    if config.tag is not None:
        members.append((config.tag_field or "", config.tag))
    for field in _fields(type(value)):
        part = getattr(value, field.name)
        if part is not msgspec.UNSET and not (config.omit_defaults and _is_default(part, field)):
            members.append((field.encode_name, part))
    return [part for _, part in members] if config.array_like else dict(members)


@lru_cache(1000)
def _fields(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)


def _is_default(part: object, field: msgspec.structs.FieldInfo) -> bool:
    """Whether msgspec leaves out a member for its default: the same object, or an empty one."""
    factory = field.default_factory
    return part is field.default or (factory in (list, dict, set) and type(part) is factory and not part)


def _with_large_numbers(value: object) -> object:
    """Return a light value with its largest whole numbers written out."""
    if type(value) is int:
        return value if -TOO_LARGE < 2 * value < TOO_LARGE else orjson.Fragment(b"%d" % value)
    parts = _parts(value)
    if isinstance(parts, dict):
        return {name: _with_large_numbers(part) for name, part in parts.items()}
    return value if parts is None else [_with_large_numbers(part) for part in parts]


def _parts(value: Any) -> dict[Any, Any] | list[Any] | None:
    """Return a container as a dict or a list, with its parts as they are. None for any other value."""
    if isinstance(value, dict | list):
        return value
    if isinstance(value, msgspec.Struct):
        return _members(value)
    if isinstance(value, ARRAYS):
        return list(value)
    if _is_model(value):
        dumped = value.model_dump()
        return dumped if isinstance(dumped, dict | list) else [dumped]
    return _attributes(value)


# Weighing.


def _weigh(value: object, left: int, depth: int) -> int:
    """Return the rest of ``left`` after ``value``, below 0 if it is heavier or too deep to tell."""
    kind = type(value)
    if kind in FLAT:
        return left - NUMBER_WEIGHT
    if isinstance(value, str):
        return left - len(value) - 2
    if isinstance(value, dict):
        return _weigh_members(value, left - 2 * len(value), depth + 1)
    if isinstance(value, list) or isinstance(value, ARRAYS):  # noqa: SIM101 — a third faster for a list
        return _weigh_all(value, left - 2 * len(value), depth + 1)
    if isinstance(value, Enum):
        return _weigh(value.value, left, depth + 1)
    if isinstance(value, orjson.Fragment):
        return left - len(value.contents)
    members = _attributes(value)
    return left - OTHER_WEIGHT if members is None else _weigh(members, left, depth)


def _weigh_all(values: Iterable[object], left: int, depth: int) -> int:
    if depth > DEPTH_MOST:
        return -1
    if left >= 0:
        for value in values:
            kind = type(value)
            # The two usual kinds cost no call.
            if kind in FLAT:
                left -= NUMBER_WEIGHT
            elif kind is str:
                left -= len(value) + 2  # type: ignore[arg-type]
            else:
                left = _weigh(value, left, depth)
            if left < 0:
                break
    return left


def _weigh_members(members: dict[object, object], left: int, depth: int) -> int:
    left = _weigh_all(members.values(), left, depth)
    if left >= 0:
        for key in members:
            left -= len(key) if type(key) is str else OTHER_WEIGHT
    return left


def _attributes(value: object) -> dict[str, object] | None:
    """Return the members of a dataclass as orjson takes them, of a Struct or of a model of pydantic.

    None if ``value`` has none.
    """
    if isinstance(value, msgspec.Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    if isinstance(value, type) or not dataclasses.is_dataclass(value):
        return vars(value) if _is_model(value) else None
    names = getattr(value, "__dict__", None) or [field.name for field in dataclasses.fields(value)]
    return {name: getattr(value, name) for name in names if not name.startswith("_")}


# Cutting.


def _cut(value: object, place: Place, depth: int) -> Iterator[bytes]:
    if depth > DEPTH_MOST:
        raise NotJsonError(TOO_DEEP)
    if isinstance(value, Enum):
        return _cut(value.value, place, depth + 1)
    if isinstance(value, str):
        return _text(value)
    if _is_model(value):
        # Dumped whole. pydantic writes null for a number that JSON does not have.
        _refuse_not_finite(value, place, 0)
        return _cut(_known(value), place, depth)
    parts = _parts(value)
    if parts is None:
        return iter((_dumps(value, place, 0),))
    if isinstance(parts, dict):
        fault = _fault_of_keys(parts)
        if fault is not None:
            raise NotJsonError(f"is not JSON: {fault}{_pointer(place)}")
        return _object(parts, place, depth + 1)
    return _array(parts, place, depth + 1)


def _text(text: str) -> Iterator[bytes]:
    yield b'"'
    for begin in range(0, len(text), SLICE_WEIGHT):
        yield _dumps(str(text[begin : begin + SLICE_WEIGHT]), (), 0)[1:-1]
    yield b'"'


def _array(array: list[object], place: Place, depth: int) -> Iterator[bytes]:
    before = b"["
    at = 0
    while part := array[at : at + SLICE_WEIGHT // NUMBER_WEIGHT]:
        fitting = len(part) if FLAT.issuperset(map(type, part)) else _fitting(part, depth)
        yield before
        if fitting:
            yield _dumps(part[:fitting], place, at)[1:-1]
        else:
            yield from _cut(part[0], (*place, at), depth)
        before = b","
        at += fitting or 1
    yield b"]"


def _fitting(values: Iterable[object], depth: int) -> int:
    """Return how many of ``values``, from the first on, fit in one slice."""
    left = SLICE_WEIGHT
    count = 0
    for value in values:
        left = _weigh(value, left - 2, depth)
        if left < 0:
            break
        count += 1
    return count


def _object(members: dict[str, object], place: Place, depth: int) -> Iterator[bytes]:
    before = b"{"
    light: dict[str, object] = {}
    left = SLICE_WEIGHT
    for key, value in members.items():
        weight = SLICE_WEIGHT - _weigh(value, SLICE_WEIGHT, depth) + len(key) + 4 if isinstance(key, str) else 0
        left -= weight
        if left < 0 and light:
            yield before + _dumps(light, place, 0)[1:-1]
            before = b","
            light = {}
            left = SLICE_WEIGHT - weight
        if left >= 0:
            light[key] = value
            continue
        left = SLICE_WEIGHT
        yield before + _dumps({key: 0}, place, 0)[1:-2]
        before = b","
        yield from _cut(value, (*place, key), depth)
    if light:
        yield before + _dumps(light, place, 0)[1:-1]
    yield b"}"


# Faults.


def _fault(value: object, first: int, depth: int) -> list[object] | None:
    """Return what in a light value is no JSON, then its place. None if there is nothing, or a model has it."""
    if type(value) in FLAT or _is_model(value):
        return None
    if depth > DEPTH_MOST:
        return [DEEP]
    if isinstance(value, Enum):
        return _fault(value.value, first, depth + 1)
    if isinstance(value, str):
        return None if _is_utf8(value) else ["a text that UTF-8 cannot hold"]
    parts = _parts(value)
    if parts is None:
        return None if _is_json(value) else [f"a value of type {type(value).__name__}"]
    what = _fault_of_keys(parts) if isinstance(parts, dict) else None
    if what is not None:
        return [what]
    for name, part in parts.items() if isinstance(parts, dict) else enumerate(parts, first):
        if type(part) in FLAT or (type(part) is str and part.isascii()):
            continue
        found = _fault(part, 0, depth + 1)
        if found is not None:
            return [found[0]] if found[0] is DEEP else [found[0], name, *found[1:]]
    return None


def _fault_of_keys(members: dict[Any, Any]) -> str | None:
    """Return what is wrong with the keys of an object. None if they are names, each of them once."""
    kinds = set(map(type, members))
    if kinds <= {str}:
        return None if _is_utf8("".join(members)) else "a key that UTF-8 cannot hold"
    if kinds == {int} and min(members) >= -TOO_LARGE // 2 and max(members) < TOO_LARGE:
        return None
    names = set()
    for key in members:
        if isinstance(key, float) and not isfinite(key):
            return f"the key {key}"
        try:
            (name,) = orjson.loads(orjson.dumps({key: None}, option=orjson.OPT_NON_STR_KEYS))
        except TypeError:
            is_large = isinstance(key, int)
            return "a key of more than 64 bits" if is_large else f"a key of type {type(key).__name__}"
        if name in names:
            return f"an object with the name {name[:KEY_LONGEST]!r} twice"
        names.add(name)
    return None


def _is_utf8(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _is_json(value: object) -> bool:
    try:
        return isinstance(value, int) or bool(orjson.dumps(value, default=_known))
    except TypeError:
        return False


# NaN and Infinity.


def _refuse_not_finite(value: object, place: Place, first: int) -> None:
    """Raise NotJsonError if there is such a number in a light value."""
    found = _not_finite(value, first)
    if found is not None:
        _refuse(found, place)


def _refuse(found: list[object], place: Place) -> NoReturn:
    number, *within = found
    raise NotJsonError(f"is not JSON: {number}{_pointer((*place, *within))}")


def _not_finite(value: object, first: int = 0) -> list[object] | None:
    """Return the first such number in a light value, then its place. None if there is none."""
    if isinstance(value, float):
        return None if isfinite(value) else [value]
    if isinstance(value, Decimal):
        return None if value.is_finite() else [value]
    if isinstance(value, Enum):
        return _not_finite(value.value)
    parts = _parts(value)
    named: Iterable[tuple[object, object]] = ()
    if parts is not None:
        named = parts.items() if isinstance(parts, dict) else enumerate(parts, first)
    for name, part in named:
        found = None if type(part) in FINITE else _not_finite(part)
        if found is not None:
            return [found[0], name, *found[1:]]
    return None


def _pointer(place: Place) -> str:
    """Return a place as a JSON pointer (RFC 6901), cut to the length of a line."""
    pointer = "".join(f"/{str(name)[:KEY_LONGEST].replace('~', '~0').replace('/', '~1')}" for name in place)
    return f" at {pointer[:PLACE_LONGEST]}" if pointer else ""
