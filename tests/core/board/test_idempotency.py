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
