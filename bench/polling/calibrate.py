"""What the requests of each kind cost the server: fitted to the CPU that was measured under all policies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.polling.agenda import Times
from bench.polling.crowd import JOBS, Measured
from bench.polling.scenario import Costs

HOLDING = ("wait", "batch")
LEAST_S = 1e-6


def costs(measured: Sequence[Measured]) -> Costs | None:
    """Return the costs that account best for the CPU of a job under all policies; None where too little was measured.

    A job is a request that submits it or JOBS of them, a run, and so many polls; a request that submits, and an answer
    that is held, cost what a poll does and more. Errors count as shares of what was measured (weighted least squares,
    no cost below 0). Where no batch was measured, what is no request is taken to be half submitting and half running.
    """
    asking = [one.polls_served_per_job for one in measured if one.policy not in HOLDING]
    if len(asking) < 2 or max(asking) - min(asking) < 1:
        return None
    shares = np.array([np.array(_counts(one)) / one.cpu_us_per_job for one in measured])
    request, taking, holding, job = (cost / 1e6 for cost in _least_squares(shares))
    poll = max(request, LEAST_S)
    return Costs(post=poll + taking, poll=poll, held=poll + holding, job=max(job, LEAST_S))


def _counts(one: Measured) -> tuple[float, float, float, float]:
    """Return how many of each a job is: requests, those of them that submit, answers that are held, runs."""
    posts = 1 / JOBS if one.policy.startswith("batch") else 1.0
    polls = one.polls_served_per_job
    return posts + polls, posts, polls if one.policy in HOLDING else 0.0, 1.0


def _least_squares(shares: Times) -> list[float]:
    """Return the costs with which the rows of ``shares`` come closest to 1; what would be negative is nothing."""
    left = list(range(shares.shape[1]))
    while True:
        found = np.linalg.lstsq(shares[:, left], np.ones(len(shares)), rcond=None)[0]
        if found.min() >= 0:
            break
        del left[int(found.argmin())]
    costs = [0.0] * shares.shape[1]
    for column, cost in zip(left, found.tolist(), strict=True):
        costs[column] = cost
    return costs
