"""The measurement of what it costs to wait."""

import pytest

from bench import waiting
from bench.measure import BenchError

pytestmark = pytest.mark.long


def test_what_it_costs_to_wait_is_measured() -> None:
    # A server that others keep from its turns reads more at once: the best of three.
    for _ in range(3):
        connected, held = waiting.measure(1000)
        # What the answers held take may lie in pages that the connections' making has freed: only the sum has a floor.
        assert 1500 < connected + held < 8000
        if held < waiting.BYTES_LIMIT:
            return
    raise AssertionError(held)


def test_an_answer_that_should_not_have_come_yet_ends_it() -> None:
    with pytest.raises(BenchError, match="not over"):
        waiting.measure(50, {"task": "noop"})
