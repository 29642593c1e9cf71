"""The kill loop of a cluster: nodes and their store are killed, stopped and parted in turns, under load.

Each node has a way of its own to one Valkey, whose file is synced before each reply. Clients submit to the nodes all
the time, and come again when they are sent away. In the end everything is healed, and what was acknowledged is asked
for at each node. A job may have begun again only if its node died, or was parted or stopped for so long that it was
taken for dead. Of a task that runs once at a time, no two attempts may overlap. Used by test_crash_cluster.py;
``make crash-cluster ROUNDS=30`` runs the long one.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.end_to_end.crash import KEPT_JOBS, KINDS, Counts, MixedClient, Victim, free_port, states
from tests.end_to_end.crash_count import is_missing, look_by_requests
from tests.end_to_end.process import AS_SHIPPED, wait_until
from tests.protocol.wire import Wire, post, submission
from tests.store_proxy import Way, way_to
from tests.valkey_servers import StoreServer, serving

NODES, CLIENTS_EACH = 2, 3
WORKERS = (16, 32, 64)
# Between two submissions of a client: the store syncs for each, and what is submitted is counted in the end.
PAUSE_S = 0.01
# A node that was not heard for 10 s is dead. It is heard each 2 s, so one that is parted for less than this is not.
DEAD_AFTER_S = 10.0
ALIVE_BEFORE_S = 7.0
# A node that goes on after SIGSTOP learns that it was taken for dead with its next step.
LATE_S = 1.0
# The life of a fault of the store: that of no node.
NO_LIFE = 0
# From the death of a node until its jobs run elsewhere.
RECLAIMED_S = 15.0


@dataclass(frozen=True)
class Fault:
    """A time in which a life of a node was no more, was parted from the store, or was stopped by SIGSTOP."""

    life: int
    begun: float
    ended: float
    what: Literal["killed", "parted", "stopped"]

    def was_late(self, again: float) -> bool:
        """Whether a job began at ``again`` because a node that was stopped had it in hand, and did not know better."""
        return self.what == "stopped" and self.ended <= again < self.ended + LATE_S

    def excuses(self, first: float, again: float) -> bool:
        """Whether a job that began at ``first`` in this life may have begun elsewhere at ``again``."""
        is_dead = self.what == "killed" or self.ended - self.begun > ALIVE_BEFORE_S
        return is_dead and self.begun < again and first < self.ended


@dataclass
class ClusterCounts(Counts):
    """What came of it."""

    faults: list[Fault] = field(default_factory=list)
    # By what was done.
    done: dict[str, int] = field(default_factory=dict)
    # Jobs that began again, though their node lived or somebody had seen them end.
    wrongly_again: list[str] = field(default_factory=list)
    # Numbers of the jobs that run one at a time, and those that did not.
    lone: set[int] = field(default_factory=set)
    overlapping: list[str] = field(default_factory=list)
    # What clients were answered that is no answer.
    wrong_answers: list[str] = field(default_factory=list)
    # From the death of a node to the next begin of a job that it had begun, where nothing else was amiss.
    seconds_to_reclaim: list[float] = field(default_factory=list)

    def compare(self, effects: str) -> None:
        """Compare what the tasks did with what is known of jobs and nodes."""
        lines = [tuple(map(int, line.split())) for line in effects.splitlines()]
        begun: dict[int, list[tuple[float, int]]] = defaultdict(list)
        for number, life, at_ns in lines:
            begun[number].append((at_ns / 1e9, life))
        self._see_one_at_a_time(sorted((at_ns / 1e9, number, life) for number, life, at_ns in lines))
        for job in self.jobs.values():
            runs = sorted(begun[job.number])
            if is_missing(job, runs):
                self.no_effect.append(job.number)
            self.ran_again += len(runs) > 1
            if job.seen_at and runs and runs[-1][0] > job.seen_at:
                self.wrongly_again.append(f"{job.path} was over at {job.seen_at:.3f}: {runs}")
            for (first, life), (again, other) in itertools.pairwise(runs):
                if not any(fault.life == other and fault.was_late(again) for fault in self.faults):
                    self._judge(job.path, life, first, again)

    def _see_one_at_a_time(self, lines: list[tuple[float, int, int]]) -> None:
        running: tuple[float, int, int] | None = None
        for at, number, life in lines:
            if abs(number) not in self.lone:
                continue
            if number < 0:
                running = None if running is not None and running[1] == -number else running
                continue
            if running is not None and not self._died(running[2], running[0], at):
                self.overlapping.append(f"{number} began at {at:.3f} in life {life}, during {running}")
            running = at, number, life

    def _died(self, life: int, since: float, until: float) -> bool:
        return any(
            fault.what != "parted" and fault.life == life and since < fault.ended and fault.begun < until
            for fault in self.faults
        )

    def _was_hindered(self, since: float, until: float) -> bool:
        """Whether the store or a node that could have taken over was away meanwhile."""
        return any(fault.what != "killed" and fault.begun < until and since < fault.ended for fault in self.faults)

    def _judge(self, path: str, life: int, first: float, again: float) -> None:
        found = [fault for fault in self.faults if fault.life == life and fault.excuses(first, again)]
        if not found:
            self.wrongly_again.append(f"{path} began at {first:.3f} in life {life}, and at {again:.3f}")
        elif found[0].what == "killed" and not self._was_hindered(found[0].begun, again):
            self.seconds_to_reclaim.append(again - found[0].begun)


class SteadyClient(MixedClient):
    """Submits in all lives of a node, and comes again when its connection ends."""

    def __init__(self, port: int) -> None:
        super().__init__(port, 1)
        # Requests without an answer in time, and answers that are none.
        self.wrong: list[str] = []
        self.lone: set[int] = set()
        self._ones = itertools.count()

    def run(self) -> None:
        """Submit until ``stop`` is set."""
        while not self.stop.is_set():
            try:
                with Wire(self.port) as wire:
                    while not self.stop.wait(PAUSE_S):
                        self.submit(wire, next(self.numbers))
            except TimeoutError as error:
                self.wrong.append(f"no answer: {error}")
            except OSError:
                # There is no node.
                self.stop.wait(0.05)
            except AssertionError as error:
                # A kill may cut an answer off.
                if not str(error).startswith("the server closed"):
                    self.wrong.append(f"{error}")

    def one(self, wire: Wire, number: int) -> None:
        """Submit a job, now and then of the task that runs once at a time."""
        if next(self._ones) % 4:
            super().one(wire, number)
        else:
            self.lone.add(number)
            self.take(wire.ask(post(submission("lone_effect", number))), number)

    def slow(self, wire: Wire, number: int) -> None:
        """Submit one that takes a while."""
        self.take(wire.ask(post(submission("long_effect", number))), number)


class Node:
    """A node that is started again and again at its port, with its way to the store."""

    lives = itertools.count(1)

    def __init__(self, folder: Path, way: Way) -> None:
        self.folder = folder
        self.way = way
        self.port = free_port()
        self.life = 0
        self.victim: Victim | None = None

    def start(self) -> None:
        """Begin the next life."""
        self.life = next(self.lives)
        settings = {
            "engine": self.way.url,
            "workers": random.choice(WORKERS),
            "retention__jobs": random.choice(KEPT_JOBS),
            "journal__path": AS_SHIPPED,
            "journal__sync": AS_SHIPPED,
            "log__level": "error",
        }
        self.victim = Victim(self.folder, self.port, "full", self.life, **settings)

    def wait(self) -> None:
        """Wait until it is ready."""
        assert self.victim is not None
        self.victim.wait_until_ready()

    def signal(self, number: int) -> None:
        """Send a signal to all its processes."""
        assert self.victim is not None
        os.killpg(self.victim.process.pid, number)

    def kill(self) -> None:
        """Kill it, if it lives."""
        if self.victim is not None:
            self.victim.kill()
            self.victim = None


class Trial:
    """A store, its nodes, their clients, and what was done to them."""

    def __init__(self, store: StoreServer, nodes: list[Node]) -> None:
        self.store = store
        self.nodes = nodes
        self.counts = ClusterCounts()
        self.clients = [SteadyClient(node.port) for node in nodes for _ in range(CLIENTS_EACH)]

    def kill_node(self) -> None:
        """Kill a node and start it again."""
        node = random.choice(self.nodes)
        self._kill(node)
        time.sleep(random.uniform(0.0, 0.5))
        node.start()
        node.wait()

    def kill_store(self) -> None:
        """Kill the store and start it again. No node dies of it."""
        begun = time.monotonic()
        self.store.kill()
        time.sleep(random.uniform(0.05, 1.5))
        self.store.start()
        self._was_away(begun)

    def _was_away(self, begun: float) -> None:
        self.counts.faults.append(Fault(NO_LIFE, begun, time.monotonic(), "parted"))

    def kill_both(self) -> None:
        """Kill the store and a node at once."""
        node, begun = random.choice(self.nodes), time.monotonic()
        self.store.kill()
        self._kill(node)
        self.store.start()
        self._was_away(begun)
        node.start()
        node.wait()

    def part(self) -> None:
        """Part a node from the store for a while, after which it is as it was."""
        self._part(random.choice(self.nodes), random.uniform(0.5, 4.0))

    def part_for_long(self) -> None:
        """Part a node from the store until the others take it for dead, and join it again."""
        self._part(random.choice(self.nodes), DEAD_AFTER_S + random.uniform(2.0, 4.0))

    def stop_for_long(self) -> None:
        """Stop a node by SIGSTOP until the others take it for dead, and let it go on."""
        node = random.choice(self.nodes)
        begun = time.monotonic()
        node.signal(signal.SIGSTOP)
        time.sleep(DEAD_AFTER_S + random.uniform(2.0, 4.0))
        node.signal(signal.SIGCONT)
        self.counts.faults.append(Fault(node.life, begun, time.monotonic(), "stopped"))

    def part_half_a_minute(self) -> None:
        """The same for a time in which all that the node held is done elsewhere."""
        self._part(self.nodes[0], 30.0)

    def _part(self, node: Node, seconds: float) -> None:
        begun = time.monotonic()
        node.way.part()
        time.sleep(seconds)
        node.way.heal()
        self.counts.faults.append(Fault(node.life, begun, time.monotonic(), "parted"))

    def _kill(self, node: Node) -> None:
        begun = time.monotonic()
        node.kill()
        # What it did until the kernel had it is still its own.
        self.counts.faults.append(Fault(node.life, begun, time.monotonic(), "killed"))


Done = Callable[[Trial], None]
ALL: tuple[Done, ...] = (
    Trial.kill_node, Trial.kill_store, Trial.part, Trial.kill_node, Trial.kill_both, Trial.kill_store,
    Trial.part_for_long, Trial.kill_node, Trial.stop_for_long,
)  # fmt: skip


@contextmanager
def trial(folder: Path) -> Iterator[Trial]:
    """Start a store and nodes."""
    with ExitStack() as stack:
        store = stack.enter_context(serving(folder / "store", appendonly="yes", appendfsync="always"))
        nodes = [Node(folder, stack.enter_context(way_to(store.port))) for _ in range(NODES)]
        for node in nodes:
            stack.callback(node.kill)
            node.start()
        for node in nodes:
            node.wait()
        yield Trial(store, nodes)


def kill_cluster(folder: Path, rounds: int, what: tuple[Done, ...] = ALL) -> ClusterCounts:
    """Do ``what`` in turns, so often; then count what is told at each node."""
    MixedClient.delayed = 0
    with trial(folder) as run:
        counts = run.counts
        for client in run.clients:
            client.start()
        # So that there are some of each kind, also where the machine is slow.
        wait_until(lambda: states([*run.clients]), lambda found: found >= KINDS)
        for act in itertools.islice(itertools.cycle(what), rounds):
            time.sleep(random.uniform(0.1, 0.6))
            act(run)
            counts.rounds += 1
            counts.done[act.__name__] = counts.done.get(act.__name__, 0) + 1
        for client in run.clients:
            client.stop.set()
        counts.gather([*run.clients])
        counts.lone = set().union(*(client.lone for client in run.clients))
        counts.wrong_answers = [text for client in run.clients for text in client.wrong]
        for node in run.nodes:
            look_by_requests(node.port, counts)
    counts.compare((folder / "effects").read_text())
    return counts
