"""Results: the values that a task may return, and the byte budget."""

import asyncio
import gc
import math
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import orjson
import pydantic
import pytest
from headway.core.board.board import Board
from headway.core.board.results import ENTRY_BYTES, Results
from headway.core.job import State
from headway.core.retention import Retention
from headway.core.tasks import encoding
from headway.core.tasks.result import Result, ResultError, encode, encode_on_loop
from hypothesis import given
from hypothesis import strategies as st

from tests.each import each


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None]}, "text", 7, [], False])
def test_json_values_become_json(value: Any) -> None:
    result = encode(value, 1000)
    assert result is not None
    assert orjson.loads(result.body) == value
    assert result.media_type == "application/json"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_a_small_result_takes_the_memory_of_a_small_result() -> None:
    """In a process of its own, with memory that no other test has left full of holes."""
    program = """if True:
        from pathlib import Path
        from headway.core.tasks.result import encode
        pages = lambda: int(Path("/proc/self/statm").read_text().split()[1])
        kept = [encode({"warm": "up"}, 1000) for _ in range(100)]
        before = pages()
        kept += [encode({"number": number}, 1000) for number in range(20_000)]
        print((pages() - before) * 4096 // 20_000)
    """
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    # The object, its body and their names, not the buffer that the encoder wrote to.
    assert 50 < int(said.stdout) < 400


def test_none_is_not_stored() -> None:
    assert encode(None, 1000) is None


@pytest.mark.parametrize("value", [b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff")])
def test_bytes_stay_as_they_are(value: object) -> None:
    result = encode(value, 1000)
    assert result is not None
    assert (result.body, result.media_type) == (b"\x00\xff", "application/octet-stream")


def test_a_result_brings_its_media_type_and_text_is_utf_8() -> None:
    result = encode(Result("é", "text/csv; header=present"), 1000)
    assert result is not None
    assert (result.body, result.media_type) == ("é".encode(), "text/csv; header=present")


@each(
    "value",
    [object(), {(1, 2): 3}, "\ud800", float, lambda: 0, [Decimal("NaN")], {"a": {object()}}, (n for n in [1])],
    ids=["object", "key", "surrogate", "class", "function", "decimal", "in a set", "generator"],
)
def test_what_is_not_json_is_refused_with_its_type(value: object) -> None:
    with pytest.raises(ResultError, match="not JSON"):
        encode(value, 1000)


@pytest.mark.parametrize("media_type", ["", "png", "image/png\r\nX: 1", "image/", 5, "text/plain;é"])
def test_what_is_no_media_type_is_refused_where_it_is_written(media_type: Any) -> None:
    with pytest.raises(ResultError, match="media type"):
        Result(b"", media_type)


@pytest.mark.parametrize("body", [5, None, "\ud800"])
def test_what_is_no_body_is_refused_where_it_is_written(body: Any) -> None:
    with pytest.raises(ResultError):
        Result(body)


def test_a_result_over_the_limit_names_both_sizes() -> None:
    assert encode(b"x" * 10, 10) is not None
    with pytest.raises(ResultError, match=r"11 bytes: results.max_result_bytes in config.yaml allows 10"):
        encode(b"x" * 11, 10)


def ended(board: Board, now: float) -> int:
    sequence = board.open(State.QUEUED, lambda number: number, 0, 5, now)
    board.move(sequence, State.RUNNING, now)
    board.move(sequence, State.SUCCEEDED, now)
    return sequence


def test_the_oldest_is_given_up_when_the_budget_is_spent() -> None:
    board = Board(Retention.same(100, 60.0), 10)
    results = Results(board, 3 * (ENTRY_BYTES + 10))
    sequences = [ended(board, 1.0) for _ in range(5)]
    for sequence in sequences:
        results.put(sequence, Result(b"x" * 10))
    assert [results.get(sequence) is not None for sequence in sequences] == [False, False, True, True, True]
    assert results.evicted == 2
    assert results.used_bytes == results.max_bytes


def test_a_result_larger_than_the_whole_budget_leaves_nothing_behind() -> None:
    board = Board(Retention.same(100, 60.0), 10)
    results = Results(board, 10)
    results.put(ended(board, 1.0), Result(b"x" * 11))
    assert (len(results), results.used_bytes, results.evicted) == (0, 0, 1)


def test_results_go_with_the_jobs_they_belong_to() -> None:
    board = Board(Retention.same(2, 60.0), 10)
    results = Results(board, 10_000)
    first, second, third = (ended(board, when) for when in (1.0, 2.0, 3.0))
    for sequence in (first, second, third):
        results.put(sequence, Result(b"x"))
    deque(results.trim(3.0), 0)
    assert [results.get(s) is not None for s in (first, second, third)] == [False, True, True]
    deque(results.trim(62.5), 0)
    assert [results.get(s) is not None for s in (second, third)] == [False, True]
    deque(results.trim(100.0), 0)
    assert results.used_bytes == 0


def test_a_flood_of_results_gives_up_no_error_within_its_half_and_the_other_way_round() -> None:
    for errors in (range(1, 6), range(6, 100)):
        results = Results(Board(Retention.same(1000, 60.0), 10), 10 * ENTRY_BYTES)
        for sequence in range(1, 100):
            if sequence in errors:
                results.put_error(sequence, Result(b""), None)
            else:
                results.put(sequence, Result(b""))
        assert [results.get(sequence) is not None for sequence in range(1, 7)] == [True] * 5 + [False]
        assert (len(results), results.used_bytes) == (10, results.max_bytes)


def test_what_one_part_leaves_the_other_may_take_until_it_is_needed() -> None:
    results = Results(Board(Retention.same(100, 60.0), 10), 10 * ENTRY_BYTES)
    for sequence in range(1, 11):
        results.put(sequence, Result(b""))
    assert results.evicted == 0
    results.put_error(11, Result(b""), None)
    assert (results.get(1), results.evicted) == (None, 1)
    assert results.get(11) is not None


def test_results_go_with_their_jobs_whatever_was_asked_for_the_jobs_before() -> None:
    board = Board(Retention.same(1000, 60.0), 10)
    results = Results(board, 10_000_000)
    until: dict[int, float] = {}
    for number, keep_s in enumerate([None, 5.0, 900.0, 7.5, None, 1.0, 300.0] * 20):
        sequence = board.open(State.QUEUED, lambda number: number, 0, 5, 1.0)
        board.move(sequence, State.CANCELLED, 1.0 + number / 1000, keep_s=keep_s)
        results.put(sequence, Result(b"x"), keep_s)
        until[sequence] = 1.0 + number / 1000 + (60.0 if keep_s is None else keep_s)
    for now in (1.0, 3.0, 6.1, 8.0, 12.0, 70.0, 400.0, 2000.0):
        deque(results.trim(now), 0)
        for sequence, end in until.items():
            if end > now:
                assert results.get(sequence) is not None
            # A fifth of its time later at the latest.
            elif end + (end - 1.0) / 5 < now:
                assert results.get(sequence) is None
    assert (len(results), results.used_bytes, results.evicted) == (0, 0, 0)


def test_a_forgotten_result_frees_its_bytes_once() -> None:
    board = Board(Retention.same(2, 60.0), 10)
    results = Results(board, 10_000)
    results.put(ended(board, 1.0), Result(b"x"))
    assert results.forget(1)
    assert not results.forget(1)
    assert results.used_bytes == 0


# Large results are encoded in slices.


@dataclass
class Row:
    """A dataclass, of which orjson leaves out the names that begin with ``_``."""

    name: str
    _hidden: int
    cells: list[Any]


class Shade(Enum):
    """An enum: orjson writes its values."""

    DARK = "dark"
    LIGHT = [1, 2, 3]


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.sampled_from(["null", "x" * 300, datetime(2026, 11, 28, tzinfo=UTC), UUID(int=7), Shade.DARK, Shade.LIGHT]),
)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=8),
        st.lists(inner, max_size=8).map(tuple),
        st.dictionaries(names, inner, max_size=8),
        st.builds(Row, names, st.just(1), st.lists(inner, max_size=8)),
    ),
    max_leaves=60,
)


async def encode_both_ways(value: object) -> list[Result | None]:
    return [encode(value, 1 << 30), await encode_on_loop(value, 1 << 30)]


@pytest.mark.long
@given(values.filter(lambda value: value is not None))
def test_slices_are_the_json_that_one_go_would_make(value: object) -> None:
    """Slices so small that little values are cut everywhere that large ones may be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "SLICE_WEIGHT", 64)
        results = asyncio.run(encode_both_ways(value))
    for result in results:
        assert result is not None
        assert result.body == orjson.dumps(value)


class Leaf(msgspec.Struct, rename="camel", omit_defaults=True, tag="leaf"):
    """A Struct with everything that changes its JSON."""

    first_name: str
    cells: object = None
    more: list[Any] = []
    count: int | msgspec.UnsetType = msgspec.UNSET


class Pair(msgspec.Struct, array_like=True):
    """A Struct that is an array in JSON."""

    left: object
    right: object = 7


small = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.text("a\u00e9\n", max_size=40))
of_msgspec = st.recursive(
    small,
    lambda inner: st.one_of(
        st.lists(inner, max_size=8),
        st.lists(inner, max_size=8).map(tuple),
        st.sampled_from([Decimal("1.10"), b"\x00\xff", timedelta(days=1), UUID(int=7), frozenset({7}), {"x"}]),
        st.dictionaries(st.text("ab", max_size=9) | st.integers(0, 99), inner, max_size=8),
        st.builds(Leaf, st.text("ab", max_size=40), inner, st.lists(inner, max_size=3)),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=60,
)


@given(of_msgspec.filter(lambda value: value is not None and not isinstance(value, bytes)))
def test_other_types_are_the_json_of_msgspec_whole_and_in_slices(value: object) -> None:
    whole = asyncio.run(encode_both_ways(value))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "SLICE_WEIGHT", 64)
        results = whole + asyncio.run(encode_both_ways(value))
    for result in results:
        assert result is not None
        assert result.body == msgspec.json.encode(value)


def test_a_deque_is_an_array() -> None:
    result = encode(deque([1, 2]), 1000)
    assert result is not None
    assert result.body == b"[1,2]"


class Model(pydantic.BaseModel):
    """A model, and another one inside of it."""

    name: str = pydantic.Field(default="x" * 40, serialization_alias="called")
    mean: float = 1.5
    when: datetime = datetime(2026, 11, 29, tzinfo=UTC)
    inner: "Model | None" = None


class Numbers(pydantic.RootModel[list[float]]):
    """A model that is an array in JSON."""


@pytest.mark.parametrize("value", [Model(), Model(inner=Model()), Numbers([1.5] * 40)])
@pytest.mark.parametrize("weight", [64, 1 << 16])
def test_models_of_pydantic_are_as_they_dump_themselves(
    value: pydantic.BaseModel, weight: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "SLICE_WEIGHT", weight)
    body = orjson.dumps(value.model_dump(mode="json"))
    for around in (lambda model: model, lambda model: [model], lambda model: {"a": (model, "y" * 40)}):
        for result in asyncio.run(encode_both_ways(around(value))):
            assert result is not None
            assert body in result.body
            assert (result.body == body) == (around(value) is value)


class WrongModel(pydantic.BaseModel):
    """A model that cannot be dumped."""

    @pydantic.model_serializer
    def _dump(self) -> str:
        raise RuntimeError("no dump\nof it")


def test_a_model_that_cannot_be_dumped_is_refused() -> None:
    with pytest.raises(ResultError, match=r"returned WrongModel, which is not JSON: .*no dump"):
        encode(WrongModel(), 1000)


@each("number", [math.nan, math.inf, -math.inf])
@each(
    "wrapped, place",
    [
        (lambda number: number, "nan$|inf$"),
        (lambda number: {"mean": number}, "at /mean$"),
        (lambda number: [1, None, (2, number)], "at /2/1$"),
        (lambda number: Row("a", 1, [number]), "at /cells/0$"),
        (lambda number: [None] * 9000 + [number], "at /9000$"),
        (lambda number: {"a/b": ["x" * 70_000, {"~": [number]}]}, "at /a~1b/1/~0/0$"),
        (lambda number: Leaf("a", [{number}]), "at /cells/0/0$"),
        (lambda number: Pair(1, Leaf("x" * 70_000, {7: number})), "at /1/cells/7$"),
        (lambda number: [Model(mean=number)], "at /0/mean$"),
        (lambda number: Numbers([1.0] * 9000 + [number]), "at /9000$"),
    ],
    ids=["bare", "object", "array", "dataclass", "slices", "deep", "struct", "deep struct", "model", "root model"],
)
def test_a_number_that_json_does_not_have_is_refused_with_its_place(
    number: float, wrapped: Callable[[float], object], place: str
) -> None:
    for encoder in (encode, lambda value, most: asyncio.run(encode_on_loop(value, most))):
        with pytest.raises(ResultError, match=place) as refused:
            encoder(wrapped(number), 1 << 30)
        assert f"which is not JSON: {number}" in str(refused.value)


def test_what_contains_itself_is_refused() -> None:
    endless: list[object] = ["x" * 100_000]
    endless.append(endless)
    with pytest.raises(ResultError, match="it is nested more than 254 deep"):
        encode(endless, 1 << 30)


def nested(depth: int, kind: Callable[[object], object]) -> object:
    value: object = 1
    for _ in range(depth):
        value = kind(value)
    return value


class Twin(Enum):
    ONE = 1


@each(
    "value, fault",
    [
        ({1: 2, "1": 3}, "an object with the name '1' twice$"),
        ({"a": [0, {None: 1, "null": 2}]}, "an object with the name 'null' twice at /a/1$"),
        ({Twin.ONE: 1, 1: 2}, "an object with the name '1' twice$"),
        (Leaf("a", [{True: 1, "true": 2}]), "an object with the name 'true' twice at /cells/0$"),
        ({7: "x" * 70_000, "7": 1}, "an object with the name '7' twice$"),
        ({"a": dict.fromkeys(range(1000), "x" * 1000) | {"7": 1}}, "an object with the name '7' twice at /a$"),
        ({(1, 2): 3}, "a key of type tuple$"),
        ({"a": {b"b": 3}}, "a key of type bytes at /a$"),
        ({math.nan: 3}, "the key nan$"),
        ({1 << 70: 3}, "a key of more than 64 bits$"),
        ({"\udce9": 3}, "a key that UTF-8 cannot hold$"),
        ([1, "\udce9"], "a text that UTF-8 cannot hold at /1$"),
        ({"a": [object()]}, "a value of type object at /a/0$"),
        (nested(256, lambda value: [value]), "it is nested more than 254 deep$"),
        (nested(255, lambda value: {1: value}), "it is nested more than 254 deep$"),
        (nested(300, lambda value: {"a": value}), "it is nested more than 254 deep$"),
    ],
)
def test_the_fault_of_a_value_that_has_no_json_is_told_in_a_line_of_ours(value: object, fault: str) -> None:
    for encoder in (encode, lambda value, most: asyncio.run(encode_on_loop(value, most))):
        with pytest.raises(ResultError, match=f"returned [A-Za-z]+, which is not JSON: {fault}"):
            encoder(value, 1 << 30)


@each(
    "value, body",
    [
        ({1: 2, "2": 3}, b'{"1":2,"2":3}'),
        ({1: 1 << 70}, b'{"1":1180591620717411303424}'),
        ({None: {1.5: True}}, b'{"null":{"1.5":true}}'),
        ({-(1 << 63): 1, (1 << 63) - 1: 2}, b'{"-9223372036854775808":1,"9223372036854775807":2}'),
        ({(1 << 64) - 1: 1}, b'{"18446744073709551615":1}'),
    ],
)
def test_keys_that_are_names_stay(value: object, body: bytes) -> None:
    result = encode(value, 1000)
    assert result is not None
    assert result.body == body


def test_what_is_too_large_is_refused_before_it_is_built() -> None:
    # 2**40 numbers, if it were.
    bomb: object = list(range(1024))
    for _ in range(3):
        bomb = [bomb] * 1024
    began = time.thread_time()
    with pytest.raises(ResultError, match=r"more than 100000 bytes: results.max_result_bytes .* allows 100000"):
        encode(bomb, 100_000)
    with pytest.raises(ResultError, match="more than 100000 bytes"):
        encode("x" * (1 << 28), 100_000)
    assert time.thread_time() - began < 0.5


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_many_bytes_stay_as_they_are(kind: Callable[[bytes], Any]) -> None:
    octets = bytes(range(256)) * 10_000
    result = encode(kind(octets), 1 << 30)
    assert result is not None
    assert (result.body, result.media_type) == (octets, "application/octet-stream")


def test_the_loop_turns_while_large_results_are_encoded() -> None:
    """Both in a thread and on the loop. The best of five, for other tests run beside this one."""
    large = {"rows": [{"number": number, "text": "null"} for number in range(60_000)]}

    async def main() -> float:
        loop = asyncio.get_running_loop()
        longest, last = 0.0, time.perf_counter()
        going = [asyncio.to_thread(encode, large, 1 << 30), encode_on_loop(large, 1 << 30)]
        tasks = [loop.create_task(one) for one in going]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            longest, last = max(longest, time.perf_counter() - last), time.perf_counter()
        assert all(task.result() for task in tasks)
        return longest

    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    # The collector would look at all that the tests before have left.
    gc.disable()
    try:
        assert any(asyncio.run(main()) < 0.02 for _ in range(10))
    finally:
        gc.enable()
        sys.setswitchinterval(before)
