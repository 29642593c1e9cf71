"""A payload decoded in pieces has the same value as decoded at once. No piece of it takes long."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Callable

import msgspec
import pytest
from headway.core.job import State, Submission
from headway.core.tasks import payloads
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.engines import engine_with, now, peek
from tests.each import each
from tests.slowness import slowness

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=3), inner, max_size=8),
    max_leaves=60,
)


def in_pieces(payload: bytes, size: int = payloads.PIECE_BYTES) -> object:
    made = payloads.slices(payload, size)
    while True:
        try:
            next(made)
        except StopIteration as end:
            return end.value


@settings(deadline=None)
@given(values, st.integers(1, 60), st.sampled_from([None, 1]), st.booleans())
def test_pieces_make_the_same_value(value: object, size: int, indent: int | None, ascii_only: bool) -> None:
    payload = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode(errors="replace")
    assert in_pieces(payload, size) == msgspec.json.decode(payload)


ODD = {
    "duplicate names": b'{"a":[1,[2,3],4],"b":1,"a":[5,[6,7],8],"":{"":[1,2],"":[3,4]}}',
    "escaped names": rb'[{"\"":[1,2,{"\\":[3,4],"\\\"":[5,6]}]},"\\",",[{\"",[7,8]]',
    "the name that stands in": b'{"~0":[1,2,{"~02":[3,4]}],"~":[5,6],"~023":{"~0":[7,8,{"~0":1}]}}',
    "a name as a client may write it": rb'{"a":[%b0],"\u007e0":[5],"b":[{"\u007e\u0030":8}]}' % (b"0," * 40),
    "numbers as names": b'{"0":[1,2,{"7":[3,4]}],"07":[5,6],"1":{"0":[7,8]}}',
    "only brackets": b"[" * 300 + b"]" * 300,
    "brackets and commas": b"[[[[],[]],[[],[]]],[[[],[]],[[],[[]]]]]",
    "one text": b'"' + b"\\u00e9," * 50 + b'"',
    "white space": b' [ 1 , { "a" : [ 2 , 3 ] , "b" : [ { } , [ ] ] } , 4 ] \n',
}


@each("name", ODD)
@each("size", range(1, 40, 3))
def test_odd_payloads(name: str, size: int) -> None:
    assert in_pieces(ODD[name], size) == msgspec.json.decode(ODD[name])


MEBIBYTE = 1 << 20
# Made where a test asks for one, since every worker collects.
LARGE: dict[str, Callable[[], bytes]] = {
    "numbers": lambda: json.dumps(list(range(150_000))).encode(),
    "zeros": lambda: b"[%b0]" % (b"0," * (MEBIBYTE // 2)),
    "empty lists": lambda: b"[%b0]" % (b"[]," * (MEBIBYTE // 3)),
    "nested lists": lambda: b"[%b0]" % (b"[[[[]]],[]]," * (MEBIBYTE // 12)),
    "deep": lambda: b"[%b0]" % ((b"[" * 900 + b"]" * 900 + b",") * 145),
    "objects": lambda: json.dumps([{"a": 1, "b": [], "name": "text"} for _ in range(25_000)]).encode(),
    "one object": lambda: json.dumps({f"name {number}": {"n": [number]} for number in range(40_000)}).encode(),
    "texts": lambda: json.dumps(["text, [with] {all}"] * 45_000).encode(),
    "escapes": lambda: json.dumps(['\u00e9\\"'] * 80_000).encode(),
    "one text": lambda: b'"%b"' % (b"x" * MEBIBYTE),
    "one list in lists": lambda: b"[[[[%b0]]]]" % (b"0," * (MEBIBYTE // 2)),
}


@pytest.mark.long
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name == "empty lists" else name for name in LARGE]
)
def test_large_payloads_are_the_same(name: str) -> None:
    payload = LARGE[name]()
    assert payloads.decode(payload) == msgspec.json.decode(payload)


# CPU seconds of a piece at most. One text cannot be cut: it is one scan.
LONGEST_S, ONE_TEXT_S = 0.003, 0.012


@pytest.mark.long
@pytest.mark.parametrize("name", LARGE)
def test_no_piece_is_long(name: str) -> None:
    """A slice is over with the piece that takes it over SHORT_SLICE_S."""
    payload = LARGE[name]()
    # The same piece is not held up by others on this machine in all of these.
    rounds = [cpu_of_pieces(payload) for _ in range(6)]
    longest = max(min(of_rounds) for of_rounds in zip(*rounds, strict=True))
    assert longest < (ONE_TEXT_S if name == "one text" else LONGEST_S) * slowness()


def cpu_of_pieces(payload: bytes) -> list[float]:
    """Return the CPU seconds of each piece, without those of the garbage collector."""
    found: list[float] = []
    pieces = payloads.slices(payload, slice_s=0.0)
    gc.collect()
    gc.disable()
    try:
        while True:
            begin = time.thread_time()
            try:
                next(pieces)
            except StopIteration:
                # The exception has the value, which is freed after it.
                found.append(time.thread_time() - begin)
                return found
            found.append(time.thread_time() - begin)
    finally:
        gc.enable()


@pytest.mark.long
@pytest.mark.parametrize("where", ["loop", "thread"])
def test_tasks_get_long_payloads_whole_while_the_loop_turns(where: str) -> None:
    given: list[object] = []
    payload = LARGE["nested lists"]()

    async def on_loop(payload: object) -> None:
        given.append(payload)

    def in_thread(payload: object) -> None:
        given.append(payload)

    async def main() -> None:
        turns = 0
        async with engine_with(on_loop if where == "loop" else in_thread, workers=1) as engine:
            task = "on_loop" if where == "loop" else "in_thread"
            job = now(engine.submit(Submission(task, msgspec.Raw(payload)))).status.id
            while peek(engine, job).state < State.SUCCEEDED:
                turns += 1
                await asyncio.sleep(0)
            assert peek(engine, job).state == State.SUCCEEDED
        assert turns > 40

    asyncio.run(main())
    assert given == [msgspec.json.decode(payload)]
