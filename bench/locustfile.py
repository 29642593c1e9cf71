"""The seed's load, for locust: users that create three jobs and poll each every second until all are over.

The ramp is the seed's: to 500 users at 1/s, then at a rate that rises to 100/s, up to 15,000. BENCH_SCALE (0 to 1)
scales users and times alike, so rates stay what they are: at 0.1, 1,500 users after 70 s. `make bench` runs it; on its
own: ``locust -f bench/locustfile.py --headless --host http://127.0.0.1:8080``. Locust makes time.sleep cooperative.
"""

from __future__ import annotations

import os
import random
import time

from locust import FastHttpUser, LoadTestShape, constant, task

SCALE = float(os.environ.get("BENCH_SCALE", "1"))
TASK = os.environ.get("BENCH_TASK", "sleep")
JOBS = 3
POLL_S = 1.0
JOB_SECONDS = (1.0, 5.0)

SLOW_USERS = 500
USERS = 15_000
# Spawned a second: in the slow part, and after the rise.
SLOW_RATE, FAST_RATE = 1.0, 100.0
# How long the rate rises, and how long all users stay, in seconds.
RISE_S = 100.0
HOLD_S = 60.0


def ramp(seconds: float, scale: float = 1.0) -> tuple[int, float] | None:
    """Return how many users there are to be ``seconds`` after the start, and spawned a second; None at the end."""
    at = seconds / scale
    slow_s = SLOW_USERS / SLOW_RATE
    risen = SLOW_USERS + (SLOW_RATE + FAST_RATE) / 2 * RISE_S
    full_s = slow_s + RISE_S + (USERS - risen) / FAST_RATE
    if at >= full_s + HOLD_S:
        return None
    rising = min(max(at - slow_s, 0.0), RISE_S)
    rate = SLOW_RATE + (FAST_RATE - SLOW_RATE) * rising / RISE_S
    users = min(at, slow_s) * SLOW_RATE + (SLOW_RATE + rate) / 2 * rising
    users += max(at - slow_s - RISE_S, 0.0) * FAST_RATE
    return max(round(min(users, USERS) * scale), 1), rate


class Ramp(LoadTestShape):
    """The seed's ramp."""

    def tick(self) -> tuple[int, float] | None:
        """Return the users there are to be and the spawn rate; None ends the test."""
        return ramp(float(self.get_run_time()), SCALE)  # type: ignore[no-untyped-call]


class Client(FastHttpUser):
    """One user: a round of jobs, again and again."""

    wait_time = constant(0)

    @task
    def round(self) -> None:
        """Create the jobs, then poll those that are not over."""
        pending = [location for location in (self._create() for _ in range(JOBS)) if location]
        if not pending:
            time.sleep(POLL_S)
        while pending:
            time.sleep(POLL_S)
            pending = [location for location in pending if not self._is_over(location)]

    def _create(self) -> str | None:
        """Create a job and return its URL; None where that did not succeed."""
        body = {"task": TASK, "payload": {"seconds": round(random.uniform(*JOB_SECONDS), 3)}}
        with self.client.post("/jobs", json=body, name="POST /jobs", catch_response=True) as answer:
            if answer.status_code == 202 and "Job-State" in answer.headers:
                answer.success()
                return str(answer.headers["Location"])
            answer.failure(f"{answer.status_code}")
            return None

    def _is_over(self, location: str) -> bool:
        """Ask for the state of a job: 202 is not over, 424 is an answer like any other."""
        with self.client.head(location, name="HEAD /jobs/{id}", catch_response=True) as answer:
            code = answer.status_code
            if code in (200, 202, 410, 424) and "Job-State" in answer.headers:
                answer.success()
                return bool(code != 202)
            answer.failure(f"{code}")
            # What was never issued will not be found later either.
            return bool(code == 404)
