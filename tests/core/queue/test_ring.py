"""The ready ring against a plain list."""

import pytest
from headway.core.queue.ring import Ring
from hypothesis import given
from hypothesis import strategies as st

MOST = 4

# Push, pop, remove the k-th, over and over: many laps of a ring of eight slots.
steps = st.lists(st.one_of(st.just("push"), st.just("pop"), st.integers(0, MOST - 1)), max_size=200)


@given(steps)
def test_behaves_as_a_list_that_entries_can_be_taken_out_of(steps: list[str | int]) -> None:
    ring, line, tickets = Ring(MOST), list[int](), dict[int, int]()
    for number, step in enumerate(steps, start=1):
        if step == "push":
            if len(line) == MOST:
                continue
            try:
                tickets[number] = ring.push(number)
            except IndexError:
                tickets.update(ring.compact())
                tickets[number] = ring.push(number)
            line.append(number)
        elif step == "pop":
            assert ring.pop() == (line.pop(0) if line else 0)
        elif isinstance(step, int) and step < len(line):
            ring.remove(tickets[line.pop(step)])
        assert len(ring) == len(line)
        assert (ring.head == ring.tail) == (not line)
        assert ring.first() == (line[0] if line else 0)
        assert [ring.ahead(tickets[entry]) for entry in line] == list(range(len(line)))


def test_a_ring_without_a_slot_says_so_and_compacting_makes_room() -> None:
    ring = Ring(2)
    tickets = [ring.push(sequence) for sequence in (1, 2, 3, 4)]
    with pytest.raises(IndexError):
        ring.push(5)
    ring.remove(tickets[1])
    assert list(ring.compact()) == [(1, tickets[0]), (3, tickets[1]), (4, tickets[2])]
    assert ring.push(5) == tickets[3]
    assert [ring.pop() for _ in range(5)] == [1, 3, 4, 5, 0]


def test_removing_the_last_entry_leaves_no_hole() -> None:
    ring = Ring(2)
    ring.push(1)
    for sequence in range(2, 100):
        ring.remove(ring.push(sequence))
    assert ring.holes == []
    assert ring.push(100)
