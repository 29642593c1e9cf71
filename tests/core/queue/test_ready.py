"""A line of ready jobs against plain lists, one for each priority."""

from headway.core.queue.ready import PRIORITIES, Limit, Line
from hypothesis import given
from hypothesis import strategies as st

MOST = 6
PRIORITY = st.integers(0, PRIORITIES - 1)
STEPS = st.lists(st.tuples(st.sampled_from(["push", "push", "push", "pop", "take", "remove"]), PRIORITY), max_size=80)


@given(STEPS)
def test_behaves_as_a_list_for_each_priority(steps: list[tuple[str, int]]) -> None:
    line, lists, tickets = Line(MOST), [list[int]() for _ in range(PRIORITIES)], dict[int, int]()
    for number, (step, priority) in enumerate(steps, start=1):
        jobs = lists[priority]
        top = max((p for p in range(PRIORITIES) if lists[p]), default=-1)
        if step == "push" and len(jobs) < MOST:
            try:
                tickets[number] = line.push(number, priority)
            except IndexError:
                tickets.update(line.rings[priority].compact())
                tickets[number] = line.push(number, priority)
            jobs.append(number)
        elif step == "pop":
            assert line.pop() == (lists[top].pop(0) if top >= 0 else 0)
        elif step == "take" and jobs:
            assert line.take(priority) == jobs.pop(0)
        elif step == "remove" and jobs:
            line.remove(priority, tickets[jobs.pop(len(jobs) // 2)])
        check(line, lists, tickets)


def check(line: Line, lists: list[list[int]], tickets: dict[int, int]) -> None:
    order = [(number, priority) for priority in reversed(range(PRIORITIES)) for number in lists[priority]]
    assert len(line) == len(order)
    assert line.top == (order[0][1] if order else -1)
    assert line.first() == min(order, default=(0, -1))
    for ahead, (number, priority) in enumerate(order):
        assert line.at(priority, tickets[number]) == number
        assert line.ahead(priority, tickets[number]) == ahead
        # Of another line: the one that would stand just behind it.
        assert line.before(priority, number + 1) == ahead + 1
        assert line.before(priority, number) == ahead
    for priority in range(PRIORITIES):
        newcomer = sum(p >= priority for _, p in order)
        assert line.ahead(priority, None) == line.before(priority, None) == newcomer


def test_a_line_at_its_limit_gives_nobody_until_one_has_ended() -> None:
    own, shared = Limit(3), Limit(2)
    line, other = Line(9, (own, shared)), Line(9, (shared,))
    for sequence in range(1, 6):
        line.push(sequence, 5)
    other.push(9, 0)
    assert (line.pop(), other.pop()) == (1, 9)
    assert (own.running, shared.running) == (1, 2)
    # They stand under one limit together.
    assert (line.pop(), line.top, line.first(), line.blocking) == (0, -1, (0, -1), shared)
    shared.running -= 1
    assert (line.blocking, line.top) == (None, 5)
    shared.most = 9
    assert [line.pop(), line.pop(), line.pop()] == [2, 3, 0]
    assert (own.running, shared.running, line.blocking) == (3, 3, own)
    # They stand there all the same.
    assert (len(line), line.ahead(5, None)) == (2, 2)


def test_to_take_a_job_out_counts_against_no_limit() -> None:
    limit = Limit(1)
    line = Line(9, (limit,))
    ticket = line.push(1, 3)
    line.push(2, 3)
    line.remove(3, ticket)
    assert limit.running == 0
    # As for the oldest job of all, whatever its priority.
    line.push(3, 0)
    assert line.take(0) == 3
    assert limit.running == 1
    assert (repr(limit), repr(line)) == ("<Limit 1 of 1>", "<Line 1 ready, (<Limit 1 of 1>,)>")
