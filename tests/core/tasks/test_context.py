"""What a task is told of its attempt, and what it tells."""

import pytest
from headway.core.tasks.context import Context


@pytest.mark.parametrize("percent", [-1, 101, float("nan")])
def test_progress_outside_0_to_100_is_the_tasks_error(percent: float) -> None:
    told: list[int] = []
    with pytest.raises(ValueError, match="expected 0 to 100"):
        Context("id", 1, told.append).progress(percent)
    assert told == []


def test_progress_is_told_in_whole_percent_once_each_until_the_attempt_is_over() -> None:
    told: list[int] = []
    context = Context("id", 1, told.append)
    for percent in (0, 0.9, 1, 41.9, 41.2, 40, 100):
        context.progress(percent)
    assert told == [0, 1, 41, 40, 100]
    context.close()
    context.progress(5)
    assert len(told) == 5
