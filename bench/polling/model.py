"""A crowd on paper: the same clients, policies and promises, for crowds that no machine here can hold.

A discrete-event simulation that goes step by step rather than event by event. What happens within a step is worked out
for all at once, which is exact as long as nothing in it depends on something else in it: so a step is shorter than any
job. In each step,

- what comes in (requests, and the ends of jobs, which need the server too) waits in one line for the server, which
  takes the measured CPU for each: an answer leaves at max(arrival, end of the one before) + cost (Lindley 1952);
- workers that have become free take the next jobs of the line, first come first served;
- clients are answered as the server would, by its own rule (``headway.core.estimate``), and decide when to ask again.

What is left out: a bound of the queue, time-outs of clients, the length of the kernel's line, and all tasks but one.
Times in seconds.
"""

from __future__ import annotations

import random
from collections import deque
from math import inf

import numpy as np

from bench.polling.agenda import Agenda, Items, Times
from bench.polling.board import Board, Promises
from bench.polling.scenario import TICK_S, Outcome, Scenario

# What an item is: its number shifted by KIND_BITS, and one of these.
POST, POLL, TIME_UP, END = range(4)
KIND_BITS = 2
# As in sim: how long a client waits after an error (and up to half as much at random), and wants an answer held.
RETRY_S = 1.0
WAIT_S = 30.0
# There and back on the loopback interface, and the client's part.
NETWORK_S = 0.0003


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
        self._promises = Promises(scenario.workers)
        costs = scenario.costs
        # By kind.
        poll = costs.held if self._holds else costs.poll
        self._costs = np.array([costs.post * self._board.watched, poll, 0.0, costs.job])
        self._agenda = Agenda(scenario.step)
        self._polls = np.zeros(watches, np.int64)
        # Until when an answer is held; 0: none is.
        self._held = np.zeros(watches)
        # Things of this round that the client does not know to be over.
        self._unknown = np.full(scenario.clients, self._each)
        # Those who have not come back since the restart.
        self._away = np.zeros(watches, bool)
        # When each worker that has nothing to do became free, in order.
        self._idle = np.zeros(scenario.workers)
        # What the server has not come to yet, and when it is done with what it came to.
        self._line: deque[tuple[Times, Items]] = deque()
        self._free = 0.0
        self._left = scenario.clients

    def run(self) -> Outcome:
        """Run to the end."""
        scenario, outcome = self.scenario, self.outcome
        self._begin(np.arange(scenario.clients), np.linspace(0.0, scenario.spread, scenario.clients))
        now, waited = 0.0, 0.0
        number = 0
        down, up = scenario.restart[0], sum(scenario.restart)
        while now < scenario.until and self._left:
            number += 1
            end = number * scenario.step
            times, items = self._agenda.take()
            if now <= down < end:
                self._go_down(end)
            if down <= now < up:
                times, items = self._turn_away(times, items, up)
            self._step(times, items, end)
            if now >= scenario.since:
                waited += (self._board.tail - self._board.head) * scenario.step
            now = end
        outcome.seconds = now - scenario.since
        outcome.waiting = waited / max(outcome.seconds, 1e-9)
        return outcome

    def _begin(self, clients: Items, now: Times) -> None:
        """Clients begin a round: each asks for its jobs."""
        self._unknown[clients] = self._each
        watches = (clients[:, None] * self._each + np.arange(self._each)).ravel()
        self._agenda.add(np.repeat(now, self._each), watches << KIND_BITS | POST)

    def _step(self, times: Times, items: Items, end: float) -> None:
        """Let the server work until ``end``."""
        times, items = self._next_in_line(times, items, end)
        if not len(times):
            return
        each = self._costs[items & (1 << KIND_BITS) - 1]
        spent = np.cumsum(each)
        done = spent + np.maximum.accumulate(np.maximum(times, self._free) - spent + each)
        taken = int(np.searchsorted(done - each, end))
        if taken < len(times):
            self._line.appendleft((times[taken:], items[taken:]))
        done, kinds, numbers = done[:taken], items[:taken] & (1 << KIND_BITS) - 1, items[:taken] >> KIND_BITS
        if taken:
            self._free = float(done[-1])
            self._count_work(done, each[:taken])
            self._come_back(times[:taken], kinds, numbers)
        for kind, act in ((END, self._end), (POST, self._submit), (POLL, self._answer), (TIME_UP, self._let_go)):
            chosen = kinds == kind
            if chosen.any():
                act(numbers[chosen], done[chosen])
            if kind == POST:
                # Before anybody is told how a job is.
                self._start()

    def _next_in_line(self, times: Times, items: Items, end: float) -> tuple[Times, Items]:
        """Put what comes at the end of the server's line; return what is first in it, as much as it can do at most."""
        if len(times):
            self._line.append((times, items))
        most = max(int((end - self._free) / float(self._costs[self._costs > 0].min())) + 1, 0)
        first: list[tuple[Times, Items]] = []
        while self._line and most:
            times, items = self._line.popleft()
            if len(times) > most:
                self._line.appendleft((times[most:], items[most:]))
            first.append((times[:most], items[:most]))
            most -= len(first[-1][0])
        if len(first) == 1:
            return first[0]
        return np.concatenate([times for times, _ in first] or [np.empty(0)]), np.concatenate(
            [items for _, items in first] or [np.empty(0, np.int64)]
        )

    def _count_work(self, done: Times, each: Times) -> None:
        outcome = self.outcome
        counted = done >= self.scenario.since
        outcome.busy_s += float(each[counted].sum())
        seconds, places = np.unique(done.astype(np.int64), return_inverse=True)
        for second, work in zip(seconds.tolist(), np.bincount(places, each).tolist(), strict=True):
            outcome.work[second] = outcome.work.get(second, 0.0) + work

    # Jobs.

    def _submit(self, watches: Items, now: Times) -> None:
        each = self._board.watched
        jobs = (watches[:, None] * each + np.arange(each)).ravel()
        self._board.submit(jobs, np.repeat(now, each))
        self._polls[watches] = 0
        self._ask_again(watches, now, first=True)

    def _start(self) -> None:
        """Let workers that are free take jobs."""
        jobs = self._board.claim(len(self._idle))
        if not len(jobs):
            return
        board, (slow, fast, factor) = self._board, self.scenario.slow
        free, self._idle = self._idle[: len(jobs)], self._idle[len(jobs) :]
        started = np.maximum(free, board.submitted[jobs])
        takes = self._random.uniform(*self.scenario.job_seconds, len(jobs))
        takes[(slow <= started) & (started < fast)] *= factor
        board.started[jobs], board.takes[jobs] = started, takes
        self._promises.began(float(started[-1]))
        self._agenda.add(started + takes, jobs << KIND_BITS | END)

    def _end(self, jobs: Items, now: Times) -> None:
        board = self._board
        board.ended[jobs] = now
        self._promises.observe(now - board.started[jobs], now)
        self._idle = np.concatenate([self._idle, now])
        self.outcome.jobs += int(np.count_nonzero(now >= self.scenario.since))
        if self._holds:
            watches = np.unique(jobs // board.watched)
            watches = watches[self._held[watches] > 0]
            ended = board.over(watches)
            self._held[watches[ended < inf]] = 0.0
            self._know(watches[ended < inf], ended[ended < inf])

    # Clients.

    def _answer(self, watches: Items, now: Times) -> None:
        self._polls[watches] += 1
        over = self._board.over(watches) <= now
        self._know(watches[over], now[over])
        watches, now = watches[~over], now[~over]
        if self._holds:
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
        outcome.delays.append(known[counted] - self._board.over(watches[counted]))
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

    # A restart.

    def _go_down(self, now: float) -> None:
        """The server drains and goes: those it has held are let go, and told when to come back."""
        self._away = self._board.waiting()
        held = np.flatnonzero(self._held)
        self._held[held] = 0.0
        when = np.full(len(held), now)
        self._send(held, when + self._told(held, when))

    def _turn_away(self, times: Times, items: Items, up: float) -> tuple[Times, Items]:
        """Nobody is there: clients try again, jobs go on when the server is ``up`` again."""
        request = items & (1 << KIND_BITS) - 1 <= POLL
        retry = times[request] + RETRY_S * self._random.uniform(1, 1.5, np.count_nonzero(request))
        self._agenda.add(retry, items[request])
        end = items & (1 << KIND_BITS) - 1 == END
        self._agenda.add(np.full(np.count_nonzero(end), up), items[end])
        return np.empty(0), np.empty(0, np.int64)

    def _come_back(self, times: Times, kinds: Items, numbers: Items) -> None:
        """Count the first polls after a restart."""
        if not self._away.any():
            return
        polls = kinds == POLL
        back = self._away[numbers[polls]]
        self._away[numbers[polls]] = False
        self.outcome.returns.append(times[polls][back])


def run(scenario: Scenario) -> Outcome:
    """Run a scenario."""
    return Model(scenario).run()
