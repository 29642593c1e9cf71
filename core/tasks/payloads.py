"""Payloads, from JSON to the argument of a task: a long one a piece at a time.

msgspec builds a value at 5 to 60 ms a megabyte and lets go neither of the interpreter nor of the
loop meanwhile. So a payload over SHORT_BYTES is cut at commas into pieces of about PIECE_BYTES.
Each piece is made whole with the brackets that are open where it begins and closed where it ends.
Then it is decoded, and put in its place in the value built so far:

    [1,{"a":[2,|3],"b":4},|5]      [1,{"a":[2]}]      [{"…":[3],"b":4}]      [5]

The containers that are open at a cut are the *spine*. In a piece the first item of each of them
continues the piece before it. As a member of an object it has a name that is not in the payload.

A payload with a type is decoded at once, at any length: a Struct cannot be built of pieces. Only a
type that is satisfied by the first byte costs nothing more.

Cost: four to seven times that of decoding at once. The payload must be JSON. It is, since
it was scanned when it was accepted.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Generator
from typing import Any

import msgspec
from headway.core.body import Body
from headway.core.errors import InvalidPayloadError
from headway.core.payload_type import BODY, PLACE, PayloadType
from headway.core.slices import SHORT_SLICE_S, make, make_on_loop

# Up to here a payload is decoded at once, in 4 ms at most.
SHORT_BYTES = 64 * 1024
PIECE_BYTES = 2 * 1024

_decode = msgspec.json.Decoder().decode
_decode_name = msgspec.json.Decoder(str).decode

# Two levels of containers inside of the one that is open are passed over without a look at their
# brackets. Each part is atomic: a text that was passed once is not looked at again. A possessive
# *group*, `(?:…)*+`, would say the same, but before CPython 3.11.5 it matches wrongly (gh-106052).
_TEXT = rb'"[^"\\]*+(?>(?:\\.[^"\\]*+)*)"'
_PLAIN = rb'[^][{}",]++'
_FLAT = rb"(?>(?:[^][{}\"]++|%b)*)" % _TEXT
_INNER = rb"\[%b\]|\{%b\}" % (_FLAT, _FLAT)
_NEST = rb"(?>(?:[^][{}\"]++|%b|%b)*)" % (_TEXT, _INNER)
_ITEMS = rb"(?>(?:%b|%b|\[%b\]|\{%b\})*)" % (_PLAIN, _TEXT, _NEST, _NEST)
# Items with the comma behind each, then the text before the next bracket: in an object, a name and
# its colon.
_items = re.compile(rb"(?:%b,)*" % _ITEMS, re.DOTALL).match
_before_bracket = re.compile(_ITEMS, re.DOTALL).match

_text = re.compile(_TEXT, re.DOTALL).match

OPENING, CLOSING, COMMA = b"[{", b"]}", ord(",")
OBJECT = ord("{")
Container = list[Any] | dict[str, Any]


class _Open:
    """An open container: its bracket, the text before it in the one around it, and that one."""

    __slots__ = ("around", "bracket", "name")

    def __init__(self, bracket: int, name: bytes, around: _Open | None) -> None:
        self.bracket = bracket
        self.name = name
        self.around = around


def decode(payload: bytes, kind: PayloadType | None = None, media_type: str = "") -> object:
    """Return the value of ``payload``: of JSON, or the Body of content of ``media_type``.

    For threads: other threads run between two slices. Raises InvalidPayloadError if it does not fit
    ``kind``.
    """
    if media_type:
        return _body(payload, kind, media_type)
    if kind is not None:
        if kind.firsts == b"":
            return kind.decode(payload)
        kind.check(payload)
    if len(payload) <= SHORT_BYTES:
        return _decode(payload)
    return make(slices(payload))


def decode_at_once(payload: bytes, kind: PayloadType | None = None, media_type: str = "") -> object:
    """Return the value of ``payload``, as ``decode`` does. For a process in which nothing else runs."""
    if media_type:
        return _body(payload, kind, media_type)
    return _decode(payload) if kind is None else kind.decode(payload)


async def decode_on_loop(payload: bytes, kind: PayloadType | None = None) -> object:
    """Return the value of a long ``payload``, built a slice in each turn of the loop."""
    if kind is not None:
        if kind.firsts == b"":
            return kind.decode(payload)
        kind.check(payload)
    return await make_on_loop(slices(payload))


def check(payload: bytes | msgspec.Raw, kind: PayloadType, media_type: str) -> None:
    """Raise InvalidPayloadError if ``payload`` does not fit: JSON, or content of ``media_type``."""
    if not media_type:
        kind.check(payload)
    elif kind is not BODY:
        raise InvalidPayloadError([(PLACE, f"expected JSON, got {media_type}")])


def _body(payload: bytes, kind: PayloadType | None, media_type: str) -> Body:
    if kind is not None:
        check(payload, kind, media_type)
    return Body(payload, media_type)


def slices(
    payload: bytes, piece_bytes: int = PIECE_BYTES, slice_s: float = SHORT_SLICE_S
) -> Generator[None, None, object]:
    """Decode ``payload`` in pieces of about ``piece_bytes``, and yield behind one every ``slice_s``."""
    value: object = None
    spine: list[Container] = []
    opened: list[_Open] = []
    stand_in = _name_that_nobody_has()
    begin, until = 0, time.monotonic() + slice_s
    while begin < len(payload):
        end, innermost = _cut(payload, begin, piece_bytes, opened[-1] if opened else None)
        now_open = _from_the_root(innermost)
        # Without the comma at its end.
        text = payload[begin : end - 1] if end < len(payload) else payload[begin:]
        piece = _decode(_prefix(opened, stand_in) + text + _suffix(now_open))
        if spine:
            _add(spine, piece, stand_in)
        else:
            value = piece
            spine = [piece] if now_open else []
        spine = _spine(spine, opened, now_open)
        begin, opened = end, now_open
        if time.monotonic() >= until:
            yield
            until = time.monotonic() + slice_s
    return value


def _name_that_nobody_has() -> str:
    """Return a name that no payload has. Of a name that it knows, a client may write a character with an escape."""
    return os.urandom(16).hex()


def _cut(payload: bytes, begin: int, piece_bytes: int, innermost: _Open | None) -> tuple[int, _Open | None]:
    """Return the end of the piece from ``begin`` on, behind a comma, and what is open there."""
    at = item = begin
    cut, open_at_cut, open_now = 0, innermost, innermost
    limit = begin + piece_bytes
    while limit < len(payload):
        if at >= limit:
            if cut:
                return cut, open_at_cut
            # One long text, or nothing but brackets.
            limit += piece_bytes
        byte = payload[at]
        if byte in CLOSING:
            assert open_now is not None
            open_now = open_now.around
            at += 1
        elif byte == COMMA:
            at = cut = item = at + 1
            open_at_cut = open_now
        elif byte in OPENING and payload[at + 1] in OPENING and payload[at + 2] in OPENING:
            # Deeper than the levels that are passed over.
            open_now = _Open(byte, payload[item:at], open_now)
            at = item = at + 1
        elif (end := _end(_items(payload, at, limit))) > at:
            at = cut = item = end
            open_at_cut = open_now
        elif (end := _end(_before_bracket(payload, at, limit))) > at:
            at = end
        elif byte in OPENING:
            open_now = _Open(byte, payload[item:at], open_now)
            at = item = at + 1
        else:
            # A text that goes on behind the limit.
            at = _end(_text(payload, at))
            limit = max(limit, at + 1)
    return len(payload), None


def _end(found: re.Match[bytes] | None) -> int:
    assert found is not None
    return found.end()


def _from_the_root(innermost: _Open | None) -> list[_Open]:
    found = []
    while innermost is not None:
        found.append(innermost)
        innermost = innermost.around
    return found[::-1]


def _prefix(opened: list[_Open], stand_in: str) -> bytes:
    """Return the brackets of the containers that are open where a piece begins."""
    if not opened:
        return b""
    member = b'{"%b":' % stand_in.encode()
    return b"".join([member if each.bracket == OBJECT else b"[" for each in opened[:-1]]) + b"%c" % opened[-1].bracket


def _suffix(opened: list[_Open]) -> bytes:
    return b"".join([b"}" if each.bracket == OBJECT else b"]" for each in reversed(opened)])


def _add(spine: list[Container], piece: Any, stand_in: str) -> None:
    """Put the items of a piece into the containers they belong to."""
    for container in spine[:-1]:
        if isinstance(container, list):
            inner = piece[0]
            container += piece[1:]
        else:
            inner = piece.pop(stand_in)
            container |= piece
        piece = inner
    innermost = spine[-1]
    if isinstance(innermost, list):
        innermost += piece
    else:
        innermost |= piece


def _name(text: bytes) -> str:
    """Return the name that ``text`` gives to the value after it."""
    return _decode_name(text[: text.rindex(b":")])


def _spine(spine: list[Container], before: list[_Open], now: list[_Open]) -> list[Container]:
    """Return the containers that are open now. ``spine`` has those that were open before."""
    same = sum(old is new for old, new in zip(before, now, strict=False)) if before else min(1, len(now))
    found = spine[:same]
    for each in now[same:]:
        around = found[-1]
        found.append(around[-1] if isinstance(around, list) else around[_name(each.name)])
    return found
