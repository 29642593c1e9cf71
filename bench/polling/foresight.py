"""What befalls crowds that no machine here can hold, on paper: ``model`` with the measured costs.

All scenarios have clients with three jobs of 0.5 to 5 s, and as many workers as the jobs alone keep a core 40% busy
with, or 0.32 for each client where that is fewer; so the line gets longer with the crowd. In a burst, clients come
twice as fast as their jobs can be run, until all have come.

Crowds of a million are sampled (``Scenario.sampled``). So is one of 100,000 that is run as a whole as well, and the two
are held against each other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from bench.polling import restart
from bench.polling.crowd import JOB_SECONDS, JOBS, STAMP_S, WORKERS, Run
from bench.polling.model import run
from bench.polling.restart import Return
from bench.polling.scenario import TICK_S, Costs, Outcome, Restart, Scenario

Number = TypeVar("Number", int, float)

POLICIES = ("1s", "when-told", "wait", "batch-told")
# Share of a core that taking and running jobs may need.
JOBS_SHARE = 0.4
# For so many times as long a crowd is looked at as its jobs need to run; then it is cut.
LOOK = 2.0
# More clients than this no server could hold, or answer.
SERVED_MOST = {"1s": 100_000, "wait": 100_000}
# The sizes at which more than a burst befalls a crowd: one that is seen client by client, and a large one.
SIZES = (10_000, 1_000_000)
# The length of a step, by the most clients it is for: the more there are to see, the less of it happens within a step.
STEPS_S = {20_000: TICK_S, 200_000: 0.1, 100_000_000: 0.4}
# For how many alike each modelled client stands, by the most clients it is for. All divide the polls of a slot in pace.
EACH = {200_000: 1, 2_000_000: 25, 100_000_000: 125}
# A crowd of this size is run as a whole and sampled.
BOTH, BOTH_EACH = 100_000, 10
# A server is away for so long between its end and its successor.
GONE_S = 1.0
# Awaited by a server that is restarted: as many, and many more.
HELD = (10_000, 100_000)
# Seeds under which what was measured is run: a real run is one draw, and so would a single one of the model be.
SEEDS = 5
# Names of scenarios.
MEASURED, BURST, SAMPLED, RESTARTED = "as measured", "a burst", "a burst, sampled", "all held, and a restart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What became of a crowd."""

    name: str
    policy: str
    clients: int
    polls_per_job: float
    # p50 and p99.
    delay_ms: tuple[float, float]
    # Share of a core: in the mean, and in the worst second.
    utilisation: float
    peak: float
    # Until all jobs were over, or until nobody looked any longer.
    simulated_s: float
    over: bool
    took_s: float
    # How many clients each modelled one stood for.
    each: int = 1
    # Those who came back after a restart, and how many of them in the worst second.
    back: Return | None = None
    back_most: float = 0.0


def crowd_of(clients: int, policy: str, costs: Costs, **changes: object) -> Scenario:
    """Return a crowd that comes twice as fast as its jobs can be run, and goes when they are over."""
    mean_s = sum(JOB_SECONDS) / 2
    workers = max(min(round(clients * WORKERS), round(JOBS_SHARE / (costs.post + costs.job) * mean_s)), 1)
    served_s = clients * JOBS * mean_s / workers
    given: dict[str, object] = {
        "policy": policy,
        "clients": clients,
        "workers": workers,
        "costs": costs,
        "spread": served_s / 2,
        "until": LOOK * served_s,
        "step": _by_size(STEPS_S, clients),
    }
    return Scenario(**given | changes)  # type: ignore[arg-type]


def _by_size(table: Mapping[int, Number], clients: int) -> Number:
    return next(value for most, value in table.items() if clients <= most)


def all_of(costs: Costs, most: int) -> Iterator[tuple[str, Scenario]]:
    """Yield each scenario with its name, for crowds of up to ``most`` clients."""
    clients = min(1_000, most)
    while 0 < clients <= most:
        for policy in _served(clients):
            crowd = crowd_of(clients, policy, costs)
            yield BURST, crowd.sampled(_by_size(EACH, clients))
            if clients == BOTH and policy not in SERVED_MOST:
                yield SAMPLED, crowd.sampled(BOTH_EACH)
        clients *= 10
    for size in SIZES:
        if size <= most:
            yield from _befallen(size, costs)
    for held in HELD:
        if held <= most:
            yield RESTARTED, held_by(held, costs)


def _served(clients: int) -> list[str]:
    """Return the policies that a server could serve for so many."""
    return [policy for policy in POLICIES if clients <= SERVED_MOST.get(policy, clients)]


def _befallen(clients: int, costs: Costs) -> Iterator[tuple[str, Scenario]]:
    """Yield what else may befall a crowd; all times are parts of the burst, which takes the longer the larger it is."""
    each = _by_size(EACH, clients)
    for policy in _served(clients):
        burst = crowd_of(clients, policy, costs)
        third = burst.spread / 3
        for name, given in (
            ("all at once", replace(burst, spread=1.0)),
            ("jobs take 5 times as long for half of the time", replace(burst, slow=(third, 4 * third, 5.0))),
            ("a restart when the last have come", replace(burst, restart=Restart(at=burst.spread, gone=GONE_S))),
        ):
            # A server that says nothing has nothing to say at its end.
            if policy != "1s" or given.restart is None:
                yield name, given.sampled(each)


def held_by(clients: int, costs: Costs) -> Scenario:
    """Return the crowd of ``restart.measure``: a server holds all of it, and is restarted. No job ends meanwhile."""
    spread = clients / restart.PER_SECOND
    end = Restart(at=spread + 1, gone=GONE_S, drain_timeout=restart.DRAIN_S, linger=restart.LINGER_S, keeps=False)
    return Scenario(
        policy="wait",
        clients=clients,
        workers=restart.WORKERS,
        costs=costs,
        jobs=1,
        job_seconds=(restart.JOB_S, restart.JOB_S),
        spread=spread,
        until=end.at + clients / 1_000 + 10.0,
        restart=end,
        step=_by_size(STEPS_S, clients),
    )


def same(policy: str, crowd: Run, costs: Costs) -> Finding:
    """Run what was measured for real, under SEEDS seeds."""
    end = crowd.warm_up + crowd.seconds
    given = {"workers": crowd.workers, "spread": crowd.spread, "since": crowd.warm_up, "until": end, "again": True}
    return find(MEASURED, crowd_of(crowd.clients, policy, costs, stamp=STAMP_S, **given), SEEDS)


def same_restart(clients: int, costs: Costs) -> Finding:
    """Run the restart that was measured for real."""
    return find(MEASURED, held_by(clients, costs))


def find(name: str, scenario: Scenario, seeds: int = 1) -> Finding:
    """Run one; under several ``seeds`` as one long run, of which no worst second is known."""
    began = time.perf_counter()
    outcomes = [run(replace(scenario, seed=scenario.seed + more)) for more in range(seeds)]
    outcome = Outcome.pooled(outcomes) if seeds > 1 else outcomes[0]
    p50, p99 = outcome.delay_s(50, 99)
    back, back_most = _back(outcome, scenario.each)
    return Finding(
        name=name,
        policy=scenario.policy,
        clients=scenario.clients * scenario.each,
        polls_per_job=outcome.polls_per_job,
        delay_ms=(1000 * p50, 1000 * p99),
        utilisation=outcome.utilisation,
        # What was begun in one second may be counted in the next.
        peak=min(max(outcome.work.values(), default=0.0), 1.0),
        simulated_s=outcome.seconds,
        over=outcome.seconds < scenario.until,
        took_s=time.perf_counter() - began,
        each=scenario.each,
        back=back,
        back_most=back_most,
    )


def _back(outcome: Outcome, each: int) -> tuple[Return | None, float]:
    """Return how those came whom a server that was restarted had sent away, and how many in the worst second."""
    came = np.sort(np.concatenate(outcome.returns)) if outcome.returns else np.empty(0)
    if not len(came):
        return None, 0.0
    back = restart.returns(came.tolist(), len(came))
    back = replace(back, clients=back.clients * each, peak=back.peak * each, mean=back.mean * each)
    return back, float(np.bincount((came - came[0]).astype(np.int64)).max()) * each
