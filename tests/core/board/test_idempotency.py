"""Idempotency keys: which are known, by number and by time."""

from __future__ import annotations

from collections import OrderedDict

from headway.core.board.idempotency import Keyed, Keys
from hypothesis import given
from hypothesis import strategies as st

MOST = 4
SECONDS = 10.0


WHAT = st.sampled_from([*["put"] * 12, "forget", "trim"])


@given(st.lists(st.tuples(WHAT, st.integers(0, 6)), min_size=30, max_size=80))
def test_a_key_is_known_for_its_time_and_while_it_is_among_the_last(steps: list[tuple[str, int]]) -> None:
    """A key that was given up, for any reason, and comes again is the newest."""
    keys, model, sequence = Keys(SECONDS, MOST), OrderedDict[str, Keyed](), 0
    for now, (what, number) in enumerate(steps):
        text = f"k{number}"
        if what == "put" and keys.get(text, now) is None:
            sequence += 1
            model.pop(text, None)
            model[text] = Keyed(sequence, b"", float(now))
            keys.put(text, model[text])
            if len(model) > MOST:
                assert keys.given_up == model.popitem(last=False)[1].sequence
        elif what == "forget":
            model.pop(text, None)
            keys.forget(text)
        elif what == "trim":
            for _ in keys.trim(now):
                pass
            for old in [old for old, keyed in model.items() if now - keyed.submitted >= SECONDS]:
                del model[old]
        assert list(keys.items()) == list(model.items())


def keyed(sequence: int, submitted: float = 0.0) -> Keyed:
    return Keyed(sequence, b"digest", submitted)


def test_a_key_is_known_until_its_time_is_over() -> None:
    keys = Keys(SECONDS, MOST)
    keys.put("a", keyed(1, submitted=5.0))
    assert keys.get("a", 5.0 + SECONDS - 0.001) == keyed(1, submitted=5.0)
    assert keys.get("a", 5.0 + SECONDS) is None
    assert keys.get("b", 5.0) is None
    # Until somebody looks it stays.
    assert len(keys) == 1
    assert list(keys.trim(5.0 + SECONDS)) == [None]
    assert len(keys) == 0
    # It was not given up for others.
    assert keys.given_up == 0


def test_the_oldest_is_given_up_for_one_too_many_and_its_job_is_told() -> None:
    keys = Keys(SECONDS, MOST)
    for sequence in range(1, MOST + 1):
        keys.put(f"k{sequence}", keyed(sequence))
    assert keys.given_up == 0
    # Whoever comes again is the newest.
    keys.put("k1", keyed(9))
    keys.put("new", keyed(10))
    assert keys.given_up == 2
    assert [text for text, _ in keys.items()] == ["k3", "k4", "k1", "new"]
    assert keys.get("k2", 0.0) is None


def test_a_key_whose_job_was_not_taken_is_free_for_another() -> None:
    keys = Keys(SECONDS, MOST)
    keys.put("a", keyed(1))
    keys.put("b", keyed(2))
    keys.forget("a")
    keys.forget("never there")
    assert keys.get("a", 0.0) is None
    keys.put("a", keyed(3))
    assert list(keys.items()) == [("b", keyed(2)), ("a", keyed(3))]


def test_what_is_too_old_is_given_up_a_step_each_and_no_more_than_that() -> None:
    keys = Keys(SECONDS, 2000)
    for sequence in range(1, 1001):
        keys.put(f"k{sequence}", keyed(sequence, submitted=float(sequence)))
    steps = keys.trim(700.0 + SECONDS)
    next(steps)
    assert len(keys) == 999
    # What comes in between stays.
    keys.put("late", keyed(1001, submitted=1001.0))
    assert sum(1 for _ in steps) == 699
    assert [text for text, _ in keys.items()][:2] == ["k701", "k702"]
    assert len(keys) == 301
