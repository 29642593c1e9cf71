"""Ids: one form, and a tag that nobody else can make."""

from hashlib import blake2b

import pytest
from headway.core.ids import LENGTH, SEQUENCE_LIMIT, TAG_BITS, TAG_MASK, Ids, read, write
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(1, SEQUENCE_LIMIT - 1), st.integers(0, TAG_MASK))
def test_what_is_written_is_read(sequence: int, tag: int) -> None:
    job_id = write(sequence, tag)
    assert len(job_id) == LENGTH
    assert read(job_id) == sequence << TAG_BITS | tag


@given(st.binary(max_size=40))
def test_whatever_is_not_in_the_one_form_is_no_id(junk: bytes) -> None:
    number = read(junk)
    assert number == 0 or write(number >> TAG_BITS, number & TAG_MASK) == junk


@pytest.mark.parametrize(
    "other", [b"", b"0", b"0x00000000000100000000000000", b" 0000000000010000000000000000", b"0_0000000001" + b"0" * 16]
)
def test_other_spellings_of_a_number_are_no_ids(other: bytes) -> None:
    assert read(other) == 0


def test_upper_case_is_another_id() -> None:
    assert read(write(0xABC, 0xABC).upper()) == 0


def test_tags_depend_on_the_sequence_and_on_the_secret() -> None:
    one, same, other = Ids(b"a" * 32), Ids(b"a" * 32), Ids(b"b" * 32)
    assert one.tag(1) == same.tag(1)
    assert len({one.tag(1), one.tag(2), other.tag(1)}) == 3
    assert Ids().tag(1) != Ids().tag(1)


@given(st.lists(st.integers(1, 40) | st.integers(1, SEQUENCE_LIMIT - 1)))
def test_a_tag_is_an_eighth_of_a_digest_whatever_was_asked_before(sequences: list[int]) -> None:
    ids = Ids(b"a" * 32)
    for sequence in sequences:
        digest = blake2b((sequence // 8).to_bytes(8, "big"), key=b"a" * 32).digest()
        at = sequence % 8 * 8
        assert ids.tag(sequence) == int.from_bytes(digest[at : at + 8], "big")


@given(st.integers(1, SEQUENCE_LIMIT - 100), st.integers(1, 40))
def test_tags_of_neighbours_are_the_tags_of_each(first: int, count: int) -> None:
    ids = Ids(b"a" * 32)
    assert ids.tags(first, count) == [ids.tag(sequence) for sequence in range(first, first + count)]
