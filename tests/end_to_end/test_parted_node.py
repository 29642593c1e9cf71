"""A node that the network has parted from the store, seen from outside: what it says, and what comes of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.process import AS_SHIPPED, TASKS, Server, launch, wait_until
from tests.protocol.wire import post, submission
from tests.store_proxy import Way, way_to
from tests.valkey_servers import serving

pytestmark = pytest.mark.long

# A node that was not heard for 8 s is dead, and its jobs run elsewhere within 15 s.
DEAD_AFTER_S = 8.0
RECLAIMED_S = 15.0
PARTED_S = 30.0


@contextmanager
def node(folder: Path, url: str, **settings: object) -> Iterator[Server]:
    """Serve from a store."""
    folder.mkdir()
    chosen = {"engine": url, "journal__path": AS_SHIPPED, "tasks": TASKS, **settings}
    with launch(folder, chosen) as server:
        yield server


@contextmanager
def parted_pair(folder: Path, held: dict[str, str]) -> Iterator[tuple[Server, Server, Way]]:
    """Two nodes, the first of which has a way of its own to the store and all jobs of ``held`` in its hands."""
    with serving(folder / "store") as store, way_to(store.port) as way, node(folder / "one", way.url) as one:
        for name in held:
            held[name] = one.submit(*WORK[name])
        for path in held.values():
            one.wait_for(path, "running")
        with node(folder / "two", store.url) as two:
            yield one, two, way


# Over before the node is taken for dead, then, and after both are joined again.
WORK = {
    "short": ("sleep", {"seconds": 2}),
    "middle": ("sleep", {"seconds": 14}),
    "long": ("sleep", {"seconds": 33}),
}


def attempt(server: Server, path: str) -> int:
    """Return how often a job was begun."""
    return int(server.get(path).json["attempt"])


def test_what_a_parted_node_held_ends_once_and_stays_as_it_was_seen_to_end(tmp_path: Path) -> None:
    held = dict.fromkeys(WORK, "")
    with parted_pair(tmp_path, held) as (one, two, way):
        parted_at = time.monotonic()
        way.part()
        # Only the other can begin them again, and only once the first is taken for dead.
        wait_until(lambda: attempt(two, held["short"]), lambda number: number == 2)
        taken_s = time.monotonic() - parted_at
        assert DEAD_AFTER_S - 3 < taken_s < RECLAIMED_S
        for name in ("short", "middle"):
            two.wait_for(held[name], "succeeded")
        before = {name: two.get(held[name]).json for name in ("short", "middle")}
        time.sleep(max(0.0, PARTED_S - (time.monotonic() - parted_at)))
        way.heal()
        wait_until(lambda: one.get("/readyz").status, lambda status: status == 200)
        two.wait_for(held["long"], "succeeded")
        # The first has told how its attempts ended, and nobody listened.
        assert {name: two.get(held[name]).json for name in before} == before
        for path in held.values():
            assert one.get(path).json == two.get(path).json
            assert attempt(two, path) == 2
        for server in (one, two):
            assert (server.stats()["jobs"]["running"], server.stats()["jobs"]["queued"]) == (0, 0)


def test_a_parted_node_says_so_and_forgets_nothing(tmp_path: Path) -> None:
    with parted_pair(tmp_path, {}) as (one, two, way):
        known, elsewhere = one.run("echo", 1), two.run("echo", 2)
        assert one.head(known).status == 200
        way.part()
        refused = one.ask(post(submission("echo", 3)))
        assert (refused.status, refused.json["type"]) == (503, "urn:headway:problem:engine-away")
        assert 1 <= int(refused["retry-after"]) <= 3
        # It has a copy of the one. That it knows nothing of the other is no reason to say that there is none.
        assert one.head(known).status == 200
        assert one.head(elsewhere).status == 503
        wait_until(lambda: one.get("/readyz").status, lambda status: status == 503)
        assert two.run("echo", 4)
        way.heal()
        wait_until(lambda: one.get("/readyz").status, lambda status: status == 200)
        assert one.head(elsewhere).status == 200
        assert one.run("echo", 5)
        # Nothing of what it refused was taken.
        assert two.stats()["jobs"]["succeeded"] == 4


def test_a_short_parting_costs_no_attempt(tmp_path: Path) -> None:
    held = {"short": ""}
    with parted_pair(tmp_path, held) as (one, two, way):
        way.part()
        time.sleep(5)
        assert two.head(held["short"])["job-state"] == "running"
        way.heal()
        two.wait_for(held["short"], "succeeded")
        assert attempt(two, held["short"]) == 1
        assert one.head(held["short"]).status == 200
