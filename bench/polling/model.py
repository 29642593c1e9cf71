"""A crowd on paper: the same clients, policies and promises, for crowds that no machine here can hold.

A discrete-event simulation that goes step by step rather than event by event. What happens within a step is worked out
for all at once, which is exact as long as nothing in it depends on something else in it: so a step is shorter than any
job. In each step,

- what comes in (requests, and the ends of jobs, which need the server too) waits in one line for the server, which
  takes the measured CPU for each: an answer leaves at max(arrival, end of the one before) + cost (Lindley 1952);
- workers that have become free take the next jobs of the line, first come first served;
- clients are answered as the server would, by its own rule (``headway.core.retry_after.estimate``), and decide when
  to ask again.

What is left out: a bound of the queue, time-outs of clients, the length of the kernel's line, and all tasks but one.
Times in seconds.
"""

from __future__ import annotations

import random
from enum import Enum
from math import inf

import numpy as np
from headway.core.retry_after.estimate import CONNECTION

from bench.polling.agenda import Agenda, Items, Times
from bench.polling.board import Board, Promises
from bench.polling.runtimes import RunTimes
from bench.polling.scenario import TICK_S, Outcome, Restart, Scenario
from bench.polling.server import Server

# What an item is: its number shifted by KIND_BITS, and one of these.
POST, POLL, POLL_ANEW, TIME_UP, END = range(5)
KIND_BITS = 3
KINDS = (1 << KIND_BITS) - 1
# As in sim: how long a client waits after an error (and up to half as much at random), and wants an answer held.
RETRY_S = 1.0
WAIT_S = 30.0
# There and back on the loopback interface, and the client's part.
NETWORK_S = 0.0003

Phase = Enum("Phase", ["UP", "DRAINS", "LINGERS", "GONE", "FOLLOWED"])


class Model:
    """One run of a scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.outcome = Outcome()
        self._random = np.random.default_rng(scenario.seed)
        # For the server's rule, which draws from the module.
        random.seed(scenario.seed)
        batched = scenario.policy.startswith("batch")
        self._holds = scenario.policy in ("wait", "batch")
        self._interval = float(scenario.policy[:-1]) if scenario.policy[0].isdigit() else 0.0
        jobs = scenario.clients * scenario.jobs
        self._board = Board(jobs, scenario.jobs if batched else 1)
        # Things to ask for of each client.
        self._each = 1 if batched else scenario.jobs
        watches = scenario.clients * self._each
        self._promises = Promises(scenario.workers, scenario.pace)
        costs = scenario.costs
        poll = costs.held if self._holds else costs.poll
        # By kind.
        each = np.array([costs.post, poll, poll + (CONNECTION - 1) * costs.poll, 0.0, costs.job])
        self._server = Server(each, TIME_UP, scenario.each, scenario.since, scenario.step)
        self._agenda = Agenda(scenario.step)
        self._run_times = RunTimes(scenario, self._random)
        self._polls = np.zeros(watches, np.int64)
        # Until when an answer is held; 0: none is.
        self._held = np.zeros(watches)
        # Things of this round that the client does not know to be over.
        self._unknown = np.full(scenario.clients, self._each)
        # When each worker that has nothing to do became free, in order.
        self._idle = np.zeros(scenario.workers)
        self._left = scenario.clients
        self._phase = Phase.UP
        # The end of a phase of which it is known.
        self._until = inf
        # Those whose connections broke with the server and who have not been back, and those whom it sent away: whom
        # it told when to come while it drained, or who came while none was there.
        self._broken = np.zeros(watches, bool)
        self._sent_away = np.zeros(watches, bool)

    def run(self) -> Outcome:
        """Run to the end."""
        scenario, outcome = self.scenario, self.outcome
        self._begin(np.arange(scenario.clients), np.linspace(0.0, scenario.spread, scenario.clients))
        now, waited = 0.0, 0.0
        number = 0
        while now < scenario.until and self._left:
            number += 1
            end = number * scenario.step
            times, items = self._agenda.take()
            if scenario.restart and scenario.restart.at < end:
                times, items = self._restart(scenario.restart, times, items, end)
            self._step(times, items, end)
            if now >= scenario.since:
                waited += (self._board.tail - self._board.head) * scenario.step
            now = end
        outcome.seconds = now - scenario.since
        outcome.waiting = waited / max(outcome.seconds, 1e-9)
        outcome.busy_s, outcome.work = self._server.busy_s, self._server.by_second
        return outcome

    def _begin(self, clients: Items, now: Times) -> None:
        """Clients begin a round: each asks for its jobs."""
        self._unknown[clients] = self._each
        watches = (clients[:, None] * self._each + np.arange(self._each)).ravel()
        self._agenda.add(np.repeat(now, self._each), watches << KIND_BITS | POST)

    def _step(self, times: Times, items: Items, end: float) -> None:
        """Let the server work until ``end``."""
        kinds, numbers = items & KINDS, items >> KIND_BITS
        if self._broken.any():
            polls = np.flatnonzero(kinds == POLL)
            kinds[polls[self._broken[numbers[polls]]]] = POLL_ANEW
        self._server.add(times, kinds, numbers)
        times, done, kinds, numbers = self._server.work(end)
        anew = kinds == POLL_ANEW
        if anew.any():
            self._come_back(times[anew], numbers[anew])
            kinds = np.where(anew, POLL, kinds)
        for kind, act in ((END, self._end), (POST, self._submit), (POLL, self._answer), (TIME_UP, self._let_go)):
            chosen = kinds == kind
            if chosen.any():
                act(numbers[chosen], done[chosen])
            if kind == POST:
                # Before anybody is told how a job is.
                self._start()

    # Jobs.

    def _submit(self, watches: Items, now: Times) -> None:
        each = self._board.watched
        if self._ends:
            self._agenda.add(now + self._promises.refused(now), watches << KIND_BITS | POST)
            return
        jobs = (watches[:, None] * each + np.arange(each)).ravel()
        self._board.submit(jobs, np.repeat(now, each))
        self._polls[watches] = 0
        self._ask_again(watches, now, first=True)

    def _start(self) -> None:
        """Let workers that are free take jobs."""
        jobs = self._board.claim(0 if self._ends else len(self._idle))
        if not len(jobs):
            return
        board = self._board
        free, self._idle = self._idle[: len(jobs)], self._idle[len(jobs) :]
        started = np.maximum(free, board.submitted[jobs])
        takes = self._run_times.draw(started)
        board.started[jobs], board.takes[jobs] = started, takes
        self._promises.began(jobs, started)
        self._agenda.add(started + takes, jobs << KIND_BITS | END)

    def _end(self, jobs: Items, now: Times) -> None:
        board = self._board
        board.ended[jobs] = now
        self._observe(jobs, now)
        self._idle = np.concatenate([self._idle, now])
        self.outcome.jobs += int(np.count_nonzero(now >= self.scenario.since))
        if self._holds:
            watches = np.unique(jobs // board.watched)
            watches = watches[self._held[watches] > 0]
            ended = board.over(watches)
            self._held[watches[ended < inf]] = 0.0
            self._know(watches[ended < inf], ended[ended < inf])

    def _observe(self, jobs: Items, now: Times) -> None:
        """Let the server's rule learn of jobs that ended, and of those for which they stand."""
        each, started, takes = self.scenario.each, self._board.started[jobs], self._board.takes[jobs]
        ran = now - started
        if each > 1:
            # Their ends wait for the server as long.
            ran = np.hstack([ran[:, None], self._run_times.alike(started) + (ran - takes)[:, None]]).ravel()
        self._promises.observe(jobs, ran, np.repeat(now, each))

    # Clients.

    def _answer(self, watches: Items, now: Times) -> None:
        self._polls[watches] += 1
        over = self._board.over(watches) <= now
        self._know(watches[over], now[over])
        watches, now = watches[~over], now[~over]
        if self._holds and not self._ends:
            self._held[watches] = now + WAIT_S
            self._agenda.add(now + WAIT_S, watches << KIND_BITS | TIME_UP)
        else:
            self._ask_again(watches, now)

    def _let_go(self, watches: Items, now: Times) -> None:
        """Answers that have been held for as long as they may."""
        held = self._held[watches]
        late = watches[(held > 0) & (held <= now)]
        self._held[late] = 0.0
        self._send(late, now[(held > 0) & (held <= now)])

    def _ask_again(self, watches: Items, now: Times, first: bool = False) -> None:
        """Those whose jobs are not over decide when to ask."""
        if self._ends:
            self._sent_away[watches] = True
        if self._holds and first:
            self._send(watches, now)
        elif self._interval:
            self._send(watches, now + self._interval)
        else:
            self._send(watches, now + self._told(watches, now))

    def _told(self, watches: Items, now: Times) -> Times:
        """What the server says at ``now`` of those that are not over."""
        told = self._promises.told(self._board, len(self._idle), watches, now)
        return np.ceil(told) if self.scenario.policy == "retry-after" else told

    def _send(self, watches: Items, when: Times) -> None:
        """Poll at the next turn of the client's wheel."""
        when = (np.floor((when + NETWORK_S) / TICK_S) + 1) * TICK_S
        self._agenda.add(when, watches << KIND_BITS | POLL)

    def _know(self, watches: Items, now: Times) -> None:
        """Clients learn that what they asked for is over."""
        if not len(watches):
            return
        outcome, known = self.outcome, now + NETWORK_S
        counted = now >= self.scenario.since
        outcome.delays.append(known[counted] - self._stamped(self._board.over(watches[counted])))
        outcome.polls += int(self._polls[watches[counted]].sum())
        outcome.known += int(np.count_nonzero(counted)) * self._board.watched
        clients = watches // self._each
        np.subtract.at(self._unknown, clients, 1)
        finished, last = np.unique(clients[::-1], return_index=True)
        done = self._unknown[finished] == 0
        if self.scenario.again:
            self._begin(finished[done], known[::-1][last[done]])
        else:
            self._left -= int(np.count_nonzero(done))

    def _stamped(self, over: Times) -> Times:
        stamp = self.scenario.stamp
        return np.floor(over / stamp) * stamp if stamp else over

    # A restart.

    @property
    def _ends(self) -> bool:
        """Whether the server takes no jobs, begins none and holds no answers."""
        return self._phase in (Phase.DRAINS, Phase.LINGERS, Phase.GONE)

    def _restart(self, restart: Restart, times: Times, items: Items, end: float) -> tuple[Times, Items]:
        """Drain, go and be followed, each when it is time for it; return what comes while a server is there."""
        if self._phase is Phase.UP:
            self._drain(end, restart)
        idle = len(self._idle) == self.scenario.workers
        if self._phase is Phase.DRAINS and (idle or end >= restart.at + restart.drain_timeout):
            self._phase, self._until = Phase.LINGERS, end + restart.linger
        elif self._phase is Phase.LINGERS and end > self._until:
            self._phase, self._until = Phase.GONE, self._until + restart.gone
            self._go(end)
        if self._phase is Phase.GONE:
            if end <= self._until:
                return self._turn_away(times, items)
            self._phase = Phase.FOLLOWED
        return times, items

    def _drain(self, now: float, restart: Restart) -> None:
        """The server is told to end: those whom it holds are let go, and told when to come back."""
        self._phase = Phase.DRAINS
        self._promises.expect_end(now + (0.0 if restart.keeps else restart.drain_timeout))
        held = np.flatnonzero(self._held)
        self._held[held] = 0.0
        self._ask_again(held, np.full(len(held), now))

    def _go(self, now: float) -> None:
        """The server is gone; whoever follows knows the jobs, and nothing of how long they run."""
        times, kinds, numbers = self._server.drop()
        self._turn_away(np.maximum(times, now), numbers << KIND_BITS | kinds)
        self._broken[:] = True
        self._promises = Promises(self.scenario.workers, self.scenario.pace)

    def _turn_away(self, times: Times, items: Items) -> tuple[Times, Items]:
        """Nobody is there: clients try again after a while, and jobs that still run end under the next server."""
        ends = items & KINDS == END
        self._agenda.add(np.full(np.count_nonzero(ends), self._until), items[ends])
        asks = items & KINDS <= POLL_ANEW
        retry = times[asks] + RETRY_S * self._random.uniform(1, 1.5, np.count_nonzero(asks))
        self._agenda.add(retry, items[asks])
        self._sent_away[items[items & KINDS == POLL] >> KIND_BITS] = True
        return np.empty(0), np.empty(0, np.int64)

    def _come_back(self, times: Times, watches: Items) -> None:
        """The first polls after the restart."""
        self._broken[watches] = False
        self.outcome.returns.append(times[self._sent_away[watches]])


def run(scenario: Scenario) -> Outcome:
    """Run a scenario."""
    return Model(scenario).run()
