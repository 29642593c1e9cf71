"""Results: what a task may return, and the byte budget."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from headway.core.board import Board
from headway.core.job import State
from headway.core.results import ENTRY_BYTES, Result, ResultError, Results, encode


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None]}, "text", 7, [], False])
def test_json_values_become_json(value: Any) -> None:
    result = encode(value, 1000)
    assert result is not None
    assert orjson.loads(result.body) == value
    assert result.media_type == "application/json"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_a_small_result_takes_the_memory_of_a_small_result() -> None:
    """In a process of its own, whose memory nobody else has left full of holes."""
    program = """if True:
        from pathlib import Path
        from headway.core.results import encode
        pages = lambda: int(Path("/proc/self/statm").read_text().split()[1])
        kept = [encode({"warm": "up"}, 1000) for _ in range(100)]
        before = pages()
        kept += [encode({"number": number}, 1000) for number in range(20_000)]
        print((pages() - before) * 4096 // 20_000)
    """
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    # The object, its body and what names them; not the buffer that the encoder wrote to.
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


@pytest.mark.parametrize(
    "value", [object(), {1: {2}}, "\ud800", float, lambda: 0], ids=["object", "set", "surrogate", "class", "function"]
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
    with pytest.raises(ResultError, match=r"11 bytes; results.max_result_bytes in config.yaml allows 10"):
        encode(b"x" * 11, 10)


def ended(board: Board, now: float) -> int:
    sequence = board.open(State.QUEUED, lambda number: number, 0, 5, now)
    board.move(sequence, State.RUNNING, now)
    board.move(sequence, State.SUCCEEDED, now)
    return sequence


def test_the_oldest_is_given_up_when_the_budget_is_spent() -> None:
    board = Board(100, 60.0, 10)
    results = Results(board, 3 * (ENTRY_BYTES + 10))
    sequences = [ended(board, 1.0) for _ in range(5)]
    for sequence in sequences:
        results.put(sequence, Result(b"x" * 10))
    assert [results.get(sequence) is not None for sequence in sequences] == [False, False, True, True, True]
    assert results.evicted == 2
    assert results.used_bytes == results.max_bytes


def test_a_result_larger_than_the_whole_budget_leaves_nothing_behind() -> None:
    board = Board(100, 60.0, 10)
    results = Results(board, 10)
    results.put(ended(board, 1.0), Result(b"x" * 11))
    assert (len(results), results.used_bytes, results.evicted) == (0, 0, 1)


def test_results_go_with_the_jobs_they_belong_to() -> None:
    board = Board(2, 60.0, 10)
    results = Results(board, 10_000)
    first, second, third = (ended(board, when) for when in (1.0, 2.0, 3.0))
    for sequence in (first, second, third):
        results.put(sequence, Result(b"x"))
    results.trim(3.0)
    assert [results.get(s) is not None for s in (first, second, third)] == [False, True, True]
    results.trim(62.5)
    assert [results.get(s) is not None for s in (second, third)] == [False, True]
    results.trim(100.0)
    assert results.used_bytes == 0


def test_a_forgotten_result_frees_its_bytes_once() -> None:
    board = Board(2, 60.0, 10)
    results = Results(board, 10_000)
    results.put(ended(board, 1.0), Result(b"x"))
    assert results.forget(1)
    assert not results.forget(1)
    assert results.used_bytes == 0
