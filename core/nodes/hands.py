"""The jobs in this node's hands: claimed here, run here, and ended here.

The store owns every job. This node holds one from the step that claimed it to the step that carries
the end of its attempt, and only as long as the store agrees: each end names the node and the
attempt, and one that was fenced is dropped. So a node that was taken for dead does no harm, and a
finished job never changes.

No more jobs are claimed than there are free workers, threads and processes. A job that was claimed
is begun in the same turn of the loop, or after a few others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from math import inf

import msgspec
from headway.core.config import Config
from headway.core.ids import Ids
from headway.core.job import Reason, State
from headway.core.link.reply_error import StoreError
from headway.core.nodes.crew import Crew
from headway.core.nodes.ends import end_of, put_back, released, unreadable
from headway.core.nodes.exchange import Exchange
from headway.core.nodes.fences import Fences
from headway.core.nodes.hand import Hand
from headway.core.nodes.membership import Membership
from headway.core.nodes.node import Node
from headway.core.nodes.outbox import are_full
from headway.core.nodes.reaper import MISSING_S, Reaper
from headway.core.nodes.remarks import Remarks
from headway.core.order import OWN_TASKS
from headway.core.past_attempt import encode_attempt
from headway.core.processes.pool import pool_for
from headway.core.retention import Retention
from headway.core.stats import Stats
from headway.core.store.record import decode_record
from headway.core.store.steps import (
    LANES,
    Claimed,
    Finish,
    FinishRelease,
    FreePlaces,
    Overdue,
    StepReply,
)
from headway.core.task import Lane, Task
from headway.core.tasks.context import Context
from headway.core.tasks.registry import Registry
from headway.core.work.outcome import Outcome
from headway.core.work.reports import Reports
from headway.core.work.verdict import PAST_DEADLINE, judge
from headway.core.work.workers import Workers

log = logging.getLogger(__name__)

# Seconds between two looks at the jobs that are left, at the end of a node.
LEFT_S = 0.01
# Seconds in which the other partitions take back the jobs of a node that one has declared dead.
HAND_IN_S = 2.0
NO_ROOM = FreePlaces(0, loop=0, thread=0, process=0)

# Members of an enum cost several times as much to look up (CPython 3.11).
FAILED = State.FAILED


class Hands:
    """The jobs that this node holds. ``node`` must not be registered yet."""

    def __init__(self, config: Config, registry: Registry, ids: Ids, node: Node, missing_s: float = MISSING_S) -> None:
        self.config = config
        # Other ones after the store was emptied.
        self.ids = ids
        self.node = node
        # By sequence number.
        self.held: dict[int, Hand] = {}
        self.stats = Stats(len(registry.tasks) + len(OWN_TASKS))
        # The value of the lifespan, for the tasks.
        self.state: object = None
        self.crew = Crew(self)
        self.crew.workers = Workers(
            config.workers,
            config.results.max_result_bytes,
            self.crew,
            Lane(config.jobs.run_in),
            processes=pool_for(config, registry),
            arounds=registry.arounds,
        )
        # The crew of the server's own tasks, None if nobody carries them out here.
        self.clerk: Crew | None = None
        # Each task with its crew and the digit of its lane.
        self._tasks: dict[str, tuple[Task, Crew, int]] = {
            name: (task, self.crew, LANES[self._lane(task)]) for name, task in registry.by_name.items()
        }
        node.learn(registry.by_name, self.crew.workers.default_lane)
        self.exchanges = [Exchange(self, keys, link) for keys, link in node.places]
        self.remarks = Remarks(self.held, config.results.log_bytes, self.exchange_of)
        # Of finished jobs each partition keeps its part.
        kept, partitions = Retention.of(config.retention), len(node.places)
        self.kept = kept._replace(jobs=tuple(-(-jobs // partitions) for jobs in kept.jobs))
        # The lane of each task.
        self._lanes = {name: self._lane(task).value for name, task in registry.by_name.items()}
        self._reapers = [
            Reaper(
                keys, link, self.kept, lanes=self._lanes, marker=lambda: self.marker, name=self._id, missing_s=missing_s
            )
            for keys, link in node.places
        ]
        # By the digit of the lane: attempts that are not released. In threads those count, too, that were
        # given up.
        self._used = [0] * len(Lane)
        self._threads_most = 2 * config.workers + config.limits.lost_threads
        # Whether the node is registered, and whether it claims jobs.
        self.is_open = False
        self._is_claiming = True
        # Called with the number of jobs that were claimed when a step has changed something.
        self.on_change: Callable[[int], object] = int
        # Called with the name of a task and how long an attempt at it ran.
        self.on_ran: Callable[[str, float], object] = lambda *_: None
        self.fences = Fences()
        self.membership = Membership(node, self)

    def __len__(self) -> int:
        return len(self.held)

    @property
    def name(self) -> str:
        """The name of the node."""
        return self.node.name

    @property
    def marker(self) -> bytes:
        """The marker of the ids."""
        return self.ids.marker

    @property
    def why(self) -> str:
        """Why no jobs are claimed from any partition. Empty: they are from one at least."""
        if not self.is_open:
            return self._lost() or "the node is not registered with the store yet"
        if any(exchange.is_fit for exchange in self.exchanges):
            return ""
        return self._lost() or f"the store refuses the steps of this node: {self.exchanges[0].why}"

    def _lost(self) -> str:
        lost = [exchange.link.why for exchange in self.exchanges if not exchange.link.is_up]
        return f"the store cannot be reached: {lost[0]}" if lost else ""

    @property
    def free(self) -> int:
        """Workers without a job."""
        return self.crew.free if self._is_claiming else 0

    def submitted(self, partition: int) -> None:
        """Look for jobs that were submitted here in this turn of the loop, if a worker is free."""
        if self.free:
            self.exchanges[partition].submitted()

    def expect(self, partition: int, delay_s: float) -> None:
        """Step in ``delay_s`` at the latest: a job that was submitted here is due then."""
        self.exchanges[partition].expect(delay_s)

    @property
    def reclaimed(self) -> int:
        """Jobs of dead nodes that this one has put back."""
        return sum(reaper.taken for reaper in self._reapers)

    @property
    def step_age_s(self) -> float:
        """Seconds since each partition has done a step of this node."""
        return time.monotonic() - min(exchange.answered_at for exchange in self.exchanges)

    def exchange_of(self, sequence: int) -> Exchange:
        """Return the exchange of the partition of a job."""
        return self.exchanges[sequence % len(self.exchanges)]

    def employ(self, tasks: Mapping[str, Task], count: int) -> Crew:
        """Have the server's own ``tasks`` carried out here, ``count`` at once. Call it before ``start``."""
        crew = self.clerk = Crew(self)
        crew.workers = Workers(count, self.config.results.max_result_bytes, crew, Lane.LOOP)
        self._tasks |= {name: (task, crew, LANES[Lane.LOOP]) for name, task in tasks.items()}
        self._lanes |= dict.fromkeys(tasks, Lane.LOOP.value)
        self.node.learn(tasks, Lane.LOOP, clerk=True)
        return crew

    # Life.

    async def start(self) -> None:
        """Register the node, and begin to claim jobs. Raises StoreError."""
        await self.membership.begin()
        for crew in self._crews():
            crew.workers.start()
        processes = self.crew.workers.processes
        if processes is not None:
            processes.on_up = self.ring
        self.open()
        for reaper in self._reapers:
            reaper.start()

    def _crews(self) -> list[Crew]:
        return [self.crew] if self.clerk is None else [self.crew, self.clerk]

    def open(self) -> None:
        """Have steps leave from now on: the node is registered."""
        self.is_open = True
        for exchange in self.exchanges:
            exchange.up()

    def shut(self) -> None:
        """Have no steps leave: the node is not registered."""
        self.is_open = False

    async def drain(self, timeout_s: float) -> int:
        """Claim no more jobs, and wait for those that run. Return how many still run after ``timeout_s``."""
        self._is_claiming = False
        self._put_back(hand for crew in self._crews() for hand in crew.ready)
        for exchange in self.exchanges:
            # The store rings this node no more.
            exchange.ring()
        await self._wait(timeout_s, self.exchanges)
        return len(self.held)

    async def _wait(self, timeout_s: float, exchanges: Sequence[Exchange]) -> None:
        """Wait until nothing is held, and these partitions have confirmed all ends."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if not self.held and all(exchange.is_settled for exchange in exchanges):
                return
            await asyncio.sleep(LEFT_S)

    def resume(self) -> None:
        """Claim jobs again after a drain that did not lead to an end."""
        self._is_claiming = True
        self.ring()

    async def stop(self, timeout_s: float = 2.0) -> None:
        """Interrupt the attempts, and put their jobs back: they do not count as begun. Then leave."""
        self._is_claiming = False
        self.membership.stop()
        for reaper in self._reapers:
            await reaper.stop()
        for crew in self._crews():
            await crew.workers.stop()
        for hand in self.held.values():
            self.remarks.end(hand.sequence)
        self._put_back(list(self.held.values()))
        if self.is_open and any(exchange.link.is_up for exchange in self.exchanges):
            await self._wait(timeout_s, self.exchanges)
        left = sum(len(exchange.outbox) for exchange in self.exchanges)
        if left:
            log.error(
                "engine: ends of attempts that the store did not take: %d. Other nodes begin these jobs again", left
            )
        for exchange in self.exchanges:
            exchange.stop()
        self.shut()
        with suppress(StoreError):
            await self.node.leave()
            for reaper in self._reapers:
                await reaper.reap(self.name, has_left=True)

    def _put_back(self, hands: Iterable[Hand]) -> None:
        """Give jobs back to the store, each to the front of its line."""
        for hand in sorted(hands, key=lambda hand: hand.sequence, reverse=True):
            self.held.pop(hand.sequence, None)
            for crew in self._crews():
                if hand in crew.ready:
                    crew.ready.remove(hand)
            if not hand.is_released:
                self._release(hand)
            self.exchange_of(hand.sequence).put(put_back(hand))

    # For the store.

    def up(self) -> None:
        """Go on: a link is there again."""
        for exchange in self.exchanges:
            exchange.up()
        for reaper in self._reapers:
            reaper.up()
        self.remarks.up()

    def ring(self, partition: int | None = None) -> None:
        """Look for jobs in a partition, None for all."""
        for exchange in self.exchanges if partition is None else [self.exchanges[partition]]:
            exchange.ring()

    def heard(self, channel: bytes, message: bytes) -> None:
        """Take a message of the store: there is work, or a job was cancelled."""
        for exchange in self.exchanges:
            if channel == exchange.keys.channel(self.name):
                what, *values = message.split()
                if what == b"work":
                    exchange.ring()
                elif what == b"cancel":
                    sequence, attempt = map(int, values)
                    self.cancel(sequence, attempt)

    def cancel(self, sequence: int, attempt: int) -> None:
        """Interrupt an attempt: its job has ended, or is another node's."""
        hand = self.held.get(sequence)
        if hand is not None and hand.attempt == attempt:
            self._drop(hand)

    def _drop(self, hand: Hand) -> None:
        del self.held[hand.sequence]
        self.remarks.forget(hand.sequence)
        for crew in self._crews():
            if hand in crew.ready:
                crew.ready.remove(hand)
                self.release(hand)
                return
        self._tasks[hand.task.name][1].workers.cancel(hand)

    # For the exchanges.

    def room(self, exchange: Exchange) -> FreePlaces:
        """Return how many jobs may be claimed now."""
        if not self._is_claiming or are_full(one.outbox for one in self.exchanges):
            return NO_ROOM
        asked = sum(one.asked for one in self.exchanges)
        places = max(self.crew.free - asked, 0)
        if exchange.has_more:
            # A part for each partition that has jobs.
            places = -(-places // sum(one.has_more for one in self.exchanges))
        processes = self.crew.workers.processes
        in_processes = 0 if processes is None else processes.up - self._used[LANES[Lane.PROCESS]] - asked
        return FreePlaces(
            places,
            loop=places,
            thread=min(places, max(self._threads_most - self._used[LANES[Lane.THREAD]] - asked, 0)),
            process=min(places, max(in_processes, 0)),
            orders=0 if self.clerk is None else max(self.clerk.free - asked, 0),
        )

    def leaving(self, finishes: Sequence[Finish]) -> None:
        """Send the remarks that have to come before these ends."""
        if self.remarks:
            for finish in finishes:
                self.remarks.send(finish.sequence)

    def taken(self, exchange: Exchange, finishes: Sequence[Finish], reply: StepReply) -> None:
        """Take the reply of a step."""
        for finish, is_done in zip(finishes, reply.done, strict=True):
            if type(finish) is not FinishRelease:
                self.remarks.forget(finish.sequence)
                if not is_done:
                    self.fences.add(finish, self.membership.ids)
        if finishes or reply.claimed or reply.overdue:
            self.on_change(len(reply.claimed))
        for overdue in reply.overdue:
            self._tell(overdue)
        if reply.claimed:
            self._take_all(exchange, reply)

    def _take_all(self, exchange: Exchange, reply: StepReply) -> None:
        now = time.monotonic()
        for claimed in reply.claimed:
            try:
                self._take(claimed, reply.now_ms, now)
            except (KeyError, ValueError, msgspec.DecodeError) as error:
                outcome, finish = unreadable(claimed, error)
                outcome.log(self._id(claimed.sequence), claimed.task, claimed.attempt)
                exchange.put(finish)
        if not self._is_claiming:
            self._put_back(hand for crew in self._crews() for hand in crew.ready)
        for crew in self._crews():
            if crew.ready:
                crew.workers.wake()

    def _take(self, claimed: Claimed, now_ms: int, now: float) -> None:
        task, crew, lane = self._tasks[claimed.task]
        terms, payload = decode_record(claimed.record)
        deadline = inf if claimed.deadline_ms is None else now + (claimed.deadline_ms - now_ms) / 1000
        hand = Hand(
            sequence=claimed.sequence,
            task=task,
            payload=payload,
            terms=terms,
            deadline=deadline,
            attempt=claimed.attempt,
            node=self.name,
            lane=lane,
            began=now,
            began_ms=now_ms,
        )
        self.held[hand.sequence] = hand
        self._used[lane] += 1
        self.stats.wait[task.index].add(max(now_ms - claimed.ready_ms, 0) / 1000)
        crew.ready.append(hand)

    def _lane(self, task: Task) -> Lane:
        return task.lane or self.crew.workers.default_lane

    def looked(self, exchange: Exchange, run: Mapping[int, int]) -> None:
        """Interrupt attempts that the store has not, and put back those that only the store has."""
        for sequence, hand in list(self.held.items()):
            if self.exchange_of(sequence) is exchange and run.get(sequence) != hand.attempt:
                self._drop(hand)
        ends = exchange.outbox.attempts()
        for sequence, attempt in run.items():
            if sequence not in self.held and (sequence, attempt) not in ends:
                # The store has lost the end of an attempt, as a replica may that was promoted.
                exchange.put_back(sequence, attempt)

    def refused(self, exchange: Exchange, code: str) -> None:
        """Begin anew under another name: this one was declared dead, or the store was emptied."""
        self.membership.refused(exchange, code)

    def give_up(self, exchanges: Sequence[Exchange], why: str) -> None:
        """Interrupt the attempts of these partitions, and drop their ends: none of them counts."""
        for exchange in exchanges:
            for finish in exchange.outbox.clear():
                if type(finish) is not FinishRelease:
                    self.fences.add(finish, self.membership.ids, why)
            exchange.reset()
        for hand in list(self.held.values()):
            if self.exchange_of(hand.sequence) in exchanges:
                self._drop(hand)

    async def hand_in(self, but: Exchange) -> None:
        """Interrupt all attempts that are left and put their jobs back: other partitions still take that."""
        was_claiming, self._is_claiming = self._is_claiming, False
        begun = [hand for hand in self.held.values() if all(hand not in crew.ready for crew in self._crews())]
        self._put_back(list(self.held.values()))
        for hand in begun:
            self._tasks[hand.task.name][1].workers.cancel(hand)
        others = [exchange for exchange in self.exchanges if exchange is not but and exchange.link.is_up]
        await self._wait(HAND_IN_S, others)
        self._is_claiming = was_claiming

    def _tell(self, overdue: Overdue) -> None:
        outcome = Outcome(FAILED, Reason.DEADLINE, error=PAST_DEADLINE)
        outcome.log_waiting(self._id(overdue.sequence), overdue.task, overdue.attempts)

    def _id(self, sequence: int) -> str:
        return self.ids.write(sequence, self.ids.tag(sequence)).decode()

    # For the crews.

    def write(self, sequence: int, attempt: int, text: bytes) -> None:
        """Add text to the log of a job."""
        self.remarks.write(sequence, attempt, text)

    def look(self) -> None:
        """Have jobs claimed, if there may be some: a worker is free."""
        for exchange in self.exchanges:
            if exchange.has_more:
                exchange.wake()

    def context(self, hand: Hand) -> Context:
        """Return the context for an attempt."""
        reports = Reports(self.remarks, hand.sequence, hand.attempt, asyncio.get_running_loop())
        return Context(
            self._id(hand.sequence),
            hand.attempt,
            reports.progress,
            write=reports.write,
            task=hand.task.name,
            state=self.state,
            traceparent=hand.terms.traceparent,
        )

    def release(self, hand: Hand) -> None:
        """Note that an attempt less runs. Its end says so to the store, or did not: then this does."""
        if hand.is_released:
            return
        self._release(hand)
        if self.held.get(hand.sequence) is not hand and hand.node == self.name and self.is_open:
            self.exchange_of(hand.sequence).put(released(hand))

    def _release(self, hand: Hand) -> None:
        hand.is_released = True
        self._used[hand.lane] -= 1

    def settle(self, hand: Hand, outcome: Outcome, now: float) -> None:
        """End an attempt: have it tried again, or end the job."""
        if self.held.get(hand.sequence) is not hand:
            return
        self.remarks.end(hand.sequence)
        del self.held[hand.sequence]
        self.stats.run[hand.task.index].add(now - hand.began)
        self.stats.last_end = now
        self.on_ran(hand.task.name, now - hand.began)
        verdict = judge(outcome, hand.attempt, hand.terms.retries, hand.deadline - now, self.config.jobs)
        if verdict.state is State.RETRYING:
            self.stats.retries += 1
        past = b"" if verdict.fault is None else self._past(hand, verdict.fault, now)
        self.exchange_of(hand.sequence).put(end_of(hand, verdict, past))

    def _past(self, hand: Hand, fault: Outcome, now: float) -> bytes:
        """Log a failed attempt, and return it as the store keeps it."""
        fault.log(self._id(hand.sequence), hand.task.name, hand.attempt)
        lane = self._lane(hand.task).value
        return encode_attempt(fault.past(hand.attempt, hand.began_ms / 1000, hand.ended_s(now), lane))
