"""A text that grows against all of it, whatever its pieces."""

from __future__ import annotations

from headway.core.job_log import JobLog, joined
from headway.core.log_text import LogText
from hypothesis import given
from hypothesis import strategies as st

MOST = 16
HALF = MOST // 2
# Pieces, and counts of bytes that were left out at their source.
PIECES = st.lists(st.one_of(st.binary(max_size=40), st.integers(0, 40)), max_size=20)


def whole(pieces: list[bytes | int]) -> bytes:
    """Return all that was written, with dots for bytes that were left out."""
    return b"".join(piece if isinstance(piece, bytes) else b"." * piece for piece in pieces)


def added(text: LogText, piece: bytes | int) -> None:
    if isinstance(piece, bytes):
        text.add(1, piece)
    else:
        text.skip(piece)


def check(log: JobLog, everything: bytes) -> None:
    """Check that each byte that a log shows is the one at its place."""
    assert log.total == len(everything)
    assert log.head == everything[: len(log.head)]
    assert log.tail == everything[log.total - len(log.tail) :]
    assert log.left_out >= 0


@given(PIECES)
def test_it_keeps_its_beginning_and_its_end(pieces: list[bytes | int]) -> None:
    text = LogText(MOST)
    for piece in pieces:
        added(text, piece)
    log, everything = text.read(), whole(pieces)
    check(log, everything)
    assert len(text) <= MOST
    if all(isinstance(piece, bytes) for piece in pieces):
        assert log.head == everything[:HALF]
        assert log.tail == everything[max(len(everything) - HALF, HALF) :]


@given(PIECES, st.sets(st.integers(0, 20)), st.integers(0, 20))
def test_pieces_taken_on_the_way_make_the_same_log(pieces: list[bytes | int], takes: set[int], cut: int) -> None:
    text, taken = LogText(MOST), []
    for number, piece in enumerate(pieces):
        added(text, piece)
        if number == cut:
            text.cut(cut)
        if number in takes:
            taken += text.take()
    taken += text.take()
    assert all(len(piece) <= HALF for _, piece in taken)
    # As the journal drops them.
    total = taken[-1][0] + len(taken[-1][1])
    kept = [(place, piece) for place, piece in taken if not HALF <= place <= total - HALF - len(piece)]
    for found in (taken, kept):
        log = joined(found, HALF)
        check(log, whole(pieces))
        assert len(log.tail) <= HALF


@given(PIECES, st.integers(0, 300), st.integers(0, 300))
def test_a_piece_is_kept_and_lies_where_it_says(pieces: list[bytes | int], begin: int, end: int) -> None:
    text = LogText(MOST)
    for piece in pieces:
        added(text, piece)
    log, everything = text.read(), whole(pieces)
    place, found = log.piece(begin, end)
    assert found == everything[place : place + len(found)]
    if found:
        assert begin <= place
        assert place + len(found) <= end
        assert place in (begin, log.tail_begin)
    elif begin < min(end, log.total):
        # All of it was left out.
        assert len(log.head) <= begin
        assert min(end, log.total) <= log.tail_begin


def test_a_gap_is_told_on_a_line_of_its_own() -> None:
    assert JobLog(b"one\n", b"ten\n", 38).text() == b"one\n[... 30 bytes left out ...]\nten\n"
    assert JobLog(b"on", b"n\n", 34).text() == b"on\n[... 30 bytes left out ...]\nn\n"
    assert JobLog(b"", b"", 30).text() == b"[... 30 bytes left out ...]\n"
    assert JobLog(b"one\n", b"two\n", 8).text() == b"one\ntwo\n"


def test_an_attempt_begins_on_a_line_of_its_own() -> None:
    text = LogText(1000)
    for attempt, piece in ((1, b"one"), (2, b"two\n"), (2, b"more\n"), (4, b"four")):
        text.add(attempt, piece)
    text.add(5, b"")
    assert text.read().text() == b"one\n--- attempt 2 ---\ntwo\nmore\n--- attempt 4 ---\nfour"
