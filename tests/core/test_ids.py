"""Ids: one form, and a tag that nobody else can make."""

from hashlib import blake2b

import pytest
from headway.core.errors import MisdirectedError
from headway.core.ids import BATCH_LENGTH, COUNT_MASK, ID_LENGTH, SEQUENCE_LIMIT, TAG_MASK, TOGETHER, Ids, has_form
from hypothesis import given
from hypothesis import strategies as st

OURS = Ids(b"a" * 32)
MARKER = OURS.marker.decode()


@given(st.integers(1, SEQUENCE_LIMIT - 1), st.integers(0, TAG_MASK))
def test_what_is_written_is_read(sequence: int, tag: int) -> None:
    job_id = OURS.write(sequence, tag)
    assert len(job_id) == ID_LENGTH
    assert job_id.startswith(OURS.marker)
    assert OURS.read(job_id) == (sequence, tag)
    assert OURS.read_batch(job_id) == (0, 0)
    assert has_form(job_id)


@given(st.integers(1, SEQUENCE_LIMIT - 1), st.integers(1, COUNT_MASK))
def test_the_id_of_a_batch_is_read_where_it_was_written(first: int, count: int) -> None:
    batch_id = OURS.write_batch(first, count)
    assert len(batch_id) == BATCH_LENGTH
    assert OURS.read_batch(batch_id) == (first, count)
    assert OURS.read(batch_id) == (0, 0)
    assert has_form(batch_id)
    for at in range(len(OURS.marker), BATCH_LENGTH):
        changed = batch_id[:at] + (b"1" if batch_id[at] == 0x30 else b"0") + batch_id[at + 1 :]
        assert OURS.read_batch(changed) == (0, 0)


@given(st.binary(max_size=40))
def test_whatever_is_not_in_the_one_form_is_no_id(junk: bytes) -> None:
    sequence, tag = OURS.read(junk)
    assert sequence == 0 or OURS.write(sequence, tag) == junk


@pytest.mark.parametrize(
    "other",
    [
        "",
        "0",
        MARKER + "0x00000000000100000000000000",
        MARKER + " 0000000000010000000000000000",
        MARKER + "0_0000000001" + "0" * 16,
        MARKER + "0" * 27,
        MARKER + "0" * 29,
        OURS.write(0xABC, 0xABC).decode().upper(),
    ],
)
def test_other_spellings_of_a_number_are_no_ids(other: str) -> None:
    assert OURS.read(other.encode()) == (0, 0)


@pytest.mark.parametrize("theirs", [Ids(b"b" * 32).write(1, 1), b"0" * ID_LENGTH, b"f" * ID_LENGTH])
def test_an_id_with_the_marker_of_somebody_else_is_misdirected(theirs: bytes) -> None:
    with pytest.raises(MisdirectedError):
        OURS.read(theirs)
    with pytest.raises(MisdirectedError):
        OURS.read_batch(theirs + b"0" * (BATCH_LENGTH - ID_LENGTH))


@pytest.mark.parametrize("text", [b"0" * ID_LENGTH, b"0" * BATCH_LENGTH, b"AbCdEf" * 6])
def test_what_a_key_must_not_look_like(text: bytes) -> None:
    assert has_form(text)
    assert not has_form(text[1:])
    assert not has_form(b"g" + text[1:])


def test_each_salt_holds_from_its_number_on() -> None:
    salts = [(0, b"x" * 16), (5 * TOGETHER, b"y" * 16), (9 * TOGETHER, b"z" * 16)]
    salted = Ids(b"a" * 32, salts)
    assert salted.marker == OURS.marker
    for at, (first, salt) in enumerate(salts):
        last = salts[at + 1][0] - 1 if at < 2 else SEQUENCE_LIMIT - 1
        alone = Ids(b"a" * 32, [(0, salt)])
        for sequence in (first, last):
            assert salted.tag(sequence) == alone.tag(sequence)
            assert salted.batch_tag(sequence, 3) == alone.batch_tag(sequence, 3)
            others = {Ids(b"a" * 32, [(0, other)]).tag(sequence) for _, other in salts}
            assert len(others) == 3


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
