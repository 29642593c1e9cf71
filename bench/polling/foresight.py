"""What befalls crowds that no machine here can hold, on paper: ``model`` with the measured costs.

All scenarios have clients with three jobs of 0.5 to 5 s, and as many workers as the jobs alone keep a core 40% busy
with, or 0.32 for each client where that is fewer; so the line gets longer with the crowd. In a burst, clients come
twice as fast as their jobs can be run, until all have come.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from bench.polling.crowd import JOB_SECONDS, JOBS, WORKERS, Run
from bench.polling.model import run
from bench.polling.restart import Return, returns
from bench.polling.scenario import TICK_S, Costs, Outcome, Scenario

POLICIES = ("1s", "when-told", "wait", "batch-told")
# Share of a core that taking and running jobs may need.
JOBS_SHARE = 0.4
# For so many times as long a crowd is looked at as its jobs need to run; then it is cut.
LOOK = 2.0
# More clients than this no server could hold, or answer.
SERVED_MOST = {"1s": 100_000, "wait": 100_000}
# The length of a step, by the most clients it is for: the more there are to see, the less of it happens within a step.
STEPS_S = {20_000: TICK_S, 200_000: 0.05, 100_000_000: 0.2}


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
    # Peak to mean of those who came back after a restart; 0.0 where there was none.
    returns: float = 0.0


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
        "step": next(step for most, step in STEPS_S.items() if clients <= most),
    }
    return Scenario(**given | changes)  # type: ignore[arg-type]


def all_of(costs: Costs, most: int) -> Iterator[tuple[str, Scenario]]:
    """Yield each scenario with its name, for crowds of up to ``most`` clients."""
    clients = min(1_000, most)
    while 0 < clients <= most:
        for policy in POLICIES:
            if clients <= SERVED_MOST.get(policy, most):
                yield "a burst", crowd_of(clients, policy, costs)
        clients *= 10
    few = min(most, 10_000)
    if not few:
        return
    for policy in POLICIES:
        yield "all at once", crowd_of(few, policy, costs, spread=1.0)
    for policy in POLICIES:
        yield "jobs take 5 times as long, from 10 s to 40 s", crowd_of(few, policy, costs, slow=(10.0, 40.0, 5.0))
    for policy in POLICIES[1:]:
        given = crowd_of(few, policy, costs, spread=1.0, restart=(10.0, 1.0))
        yield "all at once, and the server restarts after 10 s, for 1 s", given


def same(policy: str, crowd: Run, costs: Costs) -> Finding:
    """Run what was measured for real."""
    end = crowd.warm_up + crowd.seconds
    given = {"workers": crowd.workers, "spread": crowd.spread, "since": crowd.warm_up, "until": end, "again": True}
    return find("as measured", crowd_of(crowd.clients, policy, costs, **given))


def find(name: str, scenario: Scenario) -> Finding:
    """Run one."""
    began = time.perf_counter()
    outcome = run(scenario)
    p50, p99 = outcome.delay_s(50, 99)
    return Finding(
        name=name,
        policy=scenario.policy,
        clients=scenario.clients,
        polls_per_job=outcome.polls_per_job,
        delay_ms=(1000 * p50, 1000 * p99),
        utilisation=outcome.utilisation,
        peak=max(outcome.work.values(), default=0.0),
        simulated_s=outcome.seconds,
        over=outcome.seconds < scenario.until,
        took_s=time.perf_counter() - began,
        returns=returned(outcome).ratio if outcome.returns else 0.0,
    )


def returned(outcome: Outcome) -> Return:
    """Return how clients came back after a restart."""
    sent = [moment for moments in outcome.returns for moment in moments.tolist()]
    return returns(sent, len(sent))
