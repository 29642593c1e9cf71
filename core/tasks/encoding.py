"""JSON of any size, a slice at a time.

orjson holds the interpreter from the first byte to the last: 5 million numbers hold it, and with it
the event loop, for 0.1 s, in whichever thread they are encoded. So a value is weighed first. A
light one goes to orjson whole, which is the usual case. A heavy one is cut along its containers
into slices of at most SLICE_WEIGHT. Between two slices another thread may have the interpreter, the
loop may have a turn, and a reader that has enough may stop.

The bytes are those of ``orjson.dumps`` but for NaN and Infinity: orjson writes null for them, and
they are refused here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from enum import Enum
from math import isfinite

import orjson

# About the bytes of a slice: a number counts as NUMBER_WEIGHT, a str as its length. A slice takes
# 0.2 ms at most.
# Seam: tests make it small, so that small values are cut as well.
SLICE_WEIGHT = 1 << 16
NUMBER_WEIGHT = 8
OTHER_WEIGHT = 64
# Levels of containers in containers: the limit of orjson.
DEPTH_MOST = 254
# Characters of the place of a number, and of each key in it.
PLACE_LONGEST = 200
KEY_LONGEST = 40

# Types of which each value weighs the same.
FLAT = frozenset({int, float, bool, type(None)})
FINITE = frozenset({int, bool, type(None), str})

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
    try:
        body = orjson.dumps(value)
    except (TypeError, RecursionError) as error:
        raise NotJsonError(f"is not JSON: {error}") from None
    if b"null" in body:
        found = _not_finite(value, first)
        if found is not None:
            number, *within = found
            raise NotJsonError(f"is not JSON: {number}{_pointer((*place, *within))}")
    return body


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
    if isinstance(value, list) or kind is tuple:
        return _weigh_all(value, left - 2 * len(value), depth + 1)  # type: ignore[arg-type]
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
    """Return the members of a dataclass as orjson takes them, None if ``value`` is no dataclass."""
    if isinstance(value, type) or not dataclasses.is_dataclass(value):
        return None
    names = getattr(value, "__dict__", None) or [field.name for field in dataclasses.fields(value)]
    return {name: getattr(value, name) for name in names if not name.startswith("_")}


# Cutting.


def _cut(value: object, place: Place, depth: int) -> Iterator[bytes]:
    if depth > DEPTH_MOST:
        raise NotJsonError("is not JSON: Recursion limit reached")
    if isinstance(value, Enum):
        return _cut(value.value, place, depth + 1)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list) or type(value) is tuple:
        return _array(value, place, depth + 1)
    members = value if isinstance(value, dict) else _attributes(value)
    if members is not None:
        return _object(members, place, depth + 1)
    return iter((_dumps(value, place, 0),))


def _text(text: str) -> Iterator[bytes]:
    yield b'"'
    for begin in range(0, len(text), SLICE_WEIGHT):
        yield _dumps(str(text[begin : begin + SLICE_WEIGHT]), (), 0)[1:-1]
    yield b'"'


def _array(array: list[object] | tuple[object, ...], place: Place, depth: int) -> Iterator[bytes]:
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


# NaN and Infinity.


def _not_finite(value: object, first: int = 0) -> list[object] | None:
    """Return the first such number in a light value, then its place. None if there is none."""
    if isinstance(value, float):
        return None if isfinite(value) else [value]
    if isinstance(value, Enum):
        return _not_finite(value.value)
    named: Iterable[tuple[object, object]] = ()
    if isinstance(value, list | tuple):
        named = enumerate(value, first)
    else:
        members = value if isinstance(value, dict) else _attributes(value)
        if members is not None:
            named = members.items()
    for name, part in named:
        found = None if type(part) in FINITE else _not_finite(part)
        if found is not None:
            return [found[0], name, *found[1:]]
    return None


def _pointer(place: Place) -> str:
    """Return a place as a JSON pointer (RFC 6901), cut to the length of a line."""
    pointer = "".join(f"/{str(name)[:KEY_LONGEST].replace('~', '~0').replace('/', '~1')}" for name in place)
    return f" at {pointer[:PLACE_LONGEST]}" if pointer else ""
