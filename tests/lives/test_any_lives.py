"""Any jobs through any lives: what was acknowledged and is kept is known, whatever was changed between the lives.

A model in a dict goes along: what was acknowledged, how it ended, in which order. After each start, and at the end, all
is asked for: state, result, key, batch, list and counts. A job may be 410 only where the number that is kept of its
outcome has allowed it at some time since it ended. A job that was 410 stays so.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from unittest.mock import patch

import pytest
from headway.core.journal import schema
from headway.core.tasks.registry import Options
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.lives.server import Gates, Lives, clock_that_is_set, linux
from tests.protocol.wire import post, request, submission

pytestmark = pytest.mark.long

DAY_S = 86_400.0
# Numbers that a start leaves out after a kill: more than may be under way here. As many
# as there are rows at least: the jobs after it have the homes of those before.
SKIP = 1 << 15
# Nothing is over in time: how far clocks are set in all is less than how long all is kept and delayed.
LONG: dict[str, Any] = {
    "idempotency": {"seconds": 300 * DAY_S},
    "jobs": {"backoff": 0.001, "backoff_max": 0.001, "timeout": 300 * DAY_S},
}
KEPT_SECONDS, DELAY_S, DEADLINE_S = 300 * DAY_S, 29 * DAY_S, 59 * DAY_S
JSON = "Content-Type: application/json"
# Attempts of a job before it is taken for what the server dies of: so many lives may end while it runs.
RETRIES = 500
OUTCOMES = ("succeeded", "failed", "cancelled")
# What the next life has: how many of each outcome are kept, how many may wait, and workers.
KEPT = st.sampled_from((1, 3, 10, 40, 1000))
SETTINGS = st.tuples(st.tuples(KEPT, KEPT, KEPT), st.integers(1, 40), st.integers(1, 9))
Chosen = tuple[tuple[int, int, int], int, int]
PICK = st.integers(0, 1 << 20)


@dataclass
class Known:
    """A job that was acknowledged."""

    path: str
    number: int
    priority: int = 5
    retries: int = 0
    delayed: bool = False
    key: str = ""
    # Empty while it is not over.
    ended: str = ""
    # An end was asked for and the answer did not come: it may have ended so.
    perhaps: str = ""
    result_deleted: bool = False


@dataclass
class Model:
    """What a client may rely on."""

    jobs: dict[str, Known] = field(default_factory=dict)
    batches: dict[str, list[str]] = field(default_factory=dict)
    # By outcome, paths in the order in which they have ended. Those that need not be kept any more, and those of them
    # that were seen to be gone.
    ends: dict[str, list[str]] = field(default_factory=lambda: {outcome: [] for outcome in OUTCOMES})
    given_up: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    kept_jobs: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))

    def end(self, job: Known, state: str) -> None:
        job.ended, job.perhaps = state, ""
        self.ends[state].append(job.path)
        self.expire()

    def expire(self, slack: int = 0) -> None:
        """Those that ended before the last ``kept_jobs`` may be gone from now on, with ``slack`` successes unknown."""
        for outcome, ends in self.ends.items():
            more = slack if outcome == "succeeded" else 0
            self.given_up.update(ends[: max(len(ends) + more - self.kept_jobs[outcome], 0)])

    @property
    def pending(self) -> list[Known]:
        return [job for job in self.jobs.values() if not job.ended]


class AnyLives(RuleBasedStateMachine):
    """Submits, ends, cancels and resubmits jobs, and lets the server end in every way.

    A rule has no precondition but returns where it finds nothing to do: what a server does at a kill is not the same
    each time, and Hypothesis would take that for a strategy that is not.
    """

    @initialize(chosen=SETTINGS)
    def begin(self, chosen: Chosen) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = Path(mkdtemp(prefix="lives"))
        self.gates = Gates()
        self.numbers = iter(range(1, 1 << 30))
        self.model = Model()
        self.clock_set = clock_that_is_set()
        self.clock = self.clock_set.__enter__()
        # Numbers lie close together, so homes on the ring collide.
        self.by_clock = patch.object(schema, "NUMBERS_A_SECOND", 0)
        self.by_clock.start()
        self.skip = patch.object(schema, "SKIP", SKIP)
        self.skip.start()
        self.lives = Lives(self.folder, ((self.gates.hold, Options(name="hold", retry_on=KeyError)),))
        self.run(self.start(chosen))

    def run(self, doing: Any) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(30):
                return await doing

        return self.loop.run_until_complete(bounded())

    async def start(self, chosen: Chosen) -> None:
        kept, size, workers = chosen
        # Of those whose end was not acknowledged each may have ended, and pushed out another: of as many as were kept
        # in the life before, or are in this one.
        perhaps = sum(bool(job.perhaps) for job in self.model.jobs.values())
        self.model.expire(perhaps)
        self.model.kept_jobs = dict(zip(OUTCOMES, kept, strict=True))
        self.size, self.workers = size, workers
        self.model.expire(perhaps)
        self.gates.forget()
        self.client = await self.lives.start(
            workers=workers,
            queue={"size": size},
            retention={"seconds": KEPT_SECONDS}
            | {outcome: {"jobs": jobs} for outcome, jobs in self.model.kept_jobs.items()},
            **LONG,
        )

    # What clients do.

    @rule(priority=st.integers(0, 9), retries=st.sampled_from((0, RETRIES)), kind=st.sampled_from("pqkdl"))
    def submit(self, priority: int, retries: int, kind: str) -> None:
        """Submit one that is held, ends at once, has a key, a delay or a deadline."""
        number = next(self.numbers)
        members: dict[str, Any] = {"priority": priority, "retries": RETRIES}
        if kind == "d":
            members["delay"] = DELAY_S
        if kind == "l":
            members["deadline"] = DEADLINE_S
        key = f"key-{number}" if kind == "k" else ""
        body = submission("hold", number, **members)
        answer = self.run(self.client.ask(post(body, *([f"Idempotency-Key: {key}"] if key else []))))
        if answer.status == 429:
            assert self.waiting() >= self.size
            return
        assert answer.status == 202, answer
        self.note(Known(answer["location"], number, priority, retries, kind == "d", key))

    @rule(count=st.integers(1, 5))
    def submit_batch(self, count: int) -> None:
        numbers = [next(self.numbers) for _ in range(count)]
        items = b"[%b]" % b",".join(submission("hold", number, retries=RETRIES) for number in numbers)
        answer = self.run(self.client.ask(request("POST", "/batches", JSON, body=items)))
        if answer.status == 429:
            assert self.waiting() + count > self.size
            return
        assert answer.status == 202, answer
        paths = [f"/jobs/{job_id}" for job_id in answer.json["jobs"]]
        self.model.batches[answer["location"]] = paths
        for path, number in zip(paths, numbers, strict=True):
            self.note(Known(path, number))

    def note(self, job: Known) -> None:
        assert job.path not in self.model.jobs, "an id was given twice"
        self.model.jobs[job.path] = job

    @rule(pick=PICK, how=st.sampled_from(("succeeded", "succeeded", "failed")))
    def finish(self, pick: int, how: str) -> None:
        """Let a job that runs end."""
        held = self.held()
        if not held:
            return
        job = held[pick % len(held)]
        self.open(job, how)
        self.run(self.lives.wait_for(job.path, how))
        self.model.end(job, how)

    def open(self, job: Known, how: str) -> None:
        self.gates.open(job.number, {"number": job.number} if how == "succeeded" else headway_failure(job.number))

    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        if not self.model.pending:
            return
        job = self.model.pending[pick % len(self.model.pending)]
        answer = self.run(self.client.ask(request("DELETE", job.path)))
        assert answer.status in (202, 204), answer
        self.model.end(job, "cancelled")

    @rule(pick=PICK)
    def forget_result(self, pick: int) -> None:
        if not self.over("succeeded"):
            return
        job = self.over("succeeded")[pick % len(self.over("succeeded"))]
        assert self.run(self.client.ask(request("DELETE", job.path))).status == 204
        job.result_deleted = True

    @rule(pick=PICK)
    def resubmit(self, pick: int) -> None:
        if not self.over("failed"):
            return
        job = self.over("failed")[pick % len(self.over("failed"))]
        answer = self.run(self.client.ask(request("POST", f"{job.path}/retry", body=b"")))
        if answer.status == 429:
            assert self.waiting() >= self.size
            return
        assert answer.status == 202, answer
        self.note(Known(answer["location"], job.number, job.priority, job.retries))

    # How servers end.

    @rule(chosen=SETTINGS)
    def end_and_start(self, chosen: Chosen) -> None:
        self.run(self.lives.end())
        self.begin_anew(chosen)

    @rule(chosen=SETTINGS, busy=st.booleans(), pause=st.sampled_from((0.0, 0.0, 0.0005, 0.002)))
    def kill_and_start(self, chosen: Chosen, busy: bool, pause: float) -> None:
        """Kill it, ``busy``: while jobs end and others come, of which nobody has been told."""
        if busy:
            self.run(self.be_busy(self.held()[:2], pause))
        self.run(self.lives.kill())
        self.begin_anew(chosen)

    async def be_busy(self, ending: list[Known], pause: float) -> None:
        for job in ending:
            self.open(job, "succeeded")
            job.perhaps = "succeeded"
        other = self.lives.client()
        await other.send(post(submission("hold", -1, retries=RETRIES)) * 5)
        await asyncio.sleep(pause)

    @rule(shift=st.sampled_from((-DAY_S, -60.0, -0.5, 0.5, 60.0, DAY_S)))
    def set_the_clock(self, shift: float) -> None:
        self.clock.shift += shift

    def begin_anew(self, chosen: Chosen) -> None:
        self.run(self.start(chosen))
        self.run(self.ask_for_all())

    # What must be so.

    async def ask_for_all(self) -> None:
        """Ask for each job in each way."""
        model = self.model
        for job in model.jobs.values():
            await self.ask_for(job)
        for path, jobs in model.batches.items():
            await self.ask_for_batch(path, [model.jobs[job] for job in jobs])
        counted = (await self.client.ask(request("GET", "/stats"))).json["jobs"]
        for state in OUTCOMES:
            assert counted[state] == sum(job.ended == state for job in model.jobs.values()), state
            listed = await self.pages(state)
            assert len(set(listed)) == len(listed), "listed twice"
            must = {job.path for job in model.jobs.values() if job.ended == state} - model.given_up
            assert must <= set(listed), f"{state} and not listed: {must - set(listed)}"
            known = {job.path for job in model.jobs.values() if state in (job.ended, job.perhaps)}
            # Those of ``be_busy`` that nobody knows are not over.
            assert set(listed) <= known, f"listed as {state}: {set(listed) - known}"

    async def ask_for(self, job: Known) -> None:
        answer = await self.client.ask(request("HEAD", job.path))
        state = answer["job-state"]
        if job.path in self.model.given_up:
            self.look_at_a_given_up(job, state)
            return
        if job.perhaps and state in (job.perhaps, "expired"):
            self.model.end(job, job.perhaps)
            if state == "expired":
                # Another ended after it, and as many were not kept in the life before.
                self.model.given_up.add(job.path)
                self.model.gone.add(job.path)
            return
        job.perhaps = ""
        if not job.ended:
            assert state in (("scheduled",) if job.delayed else ("queued", "running", "retrying")), (job, state)
        else:
            assert state == job.ended, (job, state)
        if job.ended == "succeeded":
            result = await self.client.ask(request("GET", f"{job.path}/result"))
            if job.result_deleted:
                assert result.status == 410, (job, result)
            else:
                assert (result.status, result.json) == (200, {"number": job.number}), (job, result)
        if job.ended == "failed":
            assert f"no {job.number}" in (await self.client.ask(request("GET", job.path))).json["detail"], job
        if job.key:
            assert (await self.client.ask(request("HEAD", f"/jobs/{job.key}")))["content-location"] == job.path

    def look_at_a_given_up(self, job: Known, state: str) -> None:
        assert state in (job.ended, "expired"), (job, state)
        assert state == "expired" or job.path not in self.model.gone, f"was 410: {job}"
        if state == "expired":
            self.model.gone.add(job.path)

    async def ask_for_batch(self, path: str, jobs: list[Known]) -> None:
        if any(job.path in self.model.given_up for job in jobs):
            return
        answer = await self.client.ask(request("HEAD", path))
        assert int(answer["batch-pending"]) == sum(not job.ended for job in jobs)
        assert int(answer["batch-failed"]) == sum(job.ended == "failed" for job in jobs)
        assert int(answer.headers.get("batch-cancelled", 0)) == sum(job.ended == "cancelled" for job in jobs)
        assert "batch-expired" not in answer.headers

    async def pages(self, state: str) -> list[str]:
        target, found = f"/jobs?state={state}&limit=7", list[str]()
        while target:
            page = (await self.client.ask(request("GET", target))).json
            found += [f"/jobs/{job['id']}" for job in page["jobs"]]
            target = page["next"]
        return found

    def waiting(self) -> int:
        said = self.run(self.client.ask(request("GET", "/stats"))).json["jobs"]
        return int(said["queued"] + said["scheduled"] + said["retrying"])

    def held(self) -> list[Known]:
        """Those that run, and whose gate no other job has (one that was resubmitted has its number)."""
        self.run(self.until_busy())
        return [
            job
            for job in self.model.pending
            if self.gates.is_held(job.number)
            and sum(other.number == job.number for other in self.model.pending) == 1
            and self.run(self.client.ask(request("HEAD", job.path)))["job-state"] == "running"
        ]

    async def until_busy(self) -> None:
        """Wait until no worker is idle while a job waits: one comes free a moment after its job was cancelled."""
        while True:
            said = (await self.client.ask(request("GET", "/stats"))).json
            if not (said["jobs"]["queued"] and said["workers"]["idle"]):
                return

    def over(self, state: str) -> list[Known]:
        gone = self.model.given_up
        return [job for job in self.model.jobs.values() if job.ended == state and job.path not in gone]

    @invariant()
    def no_journal_has_failed(self) -> None:
        assert not hasattr(self, "lives") or not self.lives.fatal

    def teardown(self) -> None:
        if not hasattr(self, "lives"):
            return
        try:
            self.run(self.ask_for_all())
        finally:
            self.run(self.lives.end())
            self.clock_set.__exit__(None, None, None)
            self.skip.stop()
            self.by_clock.stop()
            self.loop.run_until_complete(self.loop.shutdown_default_executor())
            self.loop.close()
            shutil.rmtree(self.folder)


class Failed(Exception):
    """What a task fails with and is not tried again after."""


def headway_failure(number: int) -> Failed:
    return Failed(f"no {number}")


def check(examples: int, steps: int) -> Callable[[], None]:
    made: type[Any] = AnyLives.TestCase
    made.settings = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        # What was found is told step by step; to make it shorter takes many lives more.
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
    )
    return lambda: made("runTest").debug()


@linux
def test_what_was_acknowledged_is_known_through_any_lives() -> None:
    check(8, 40)()


@linux
@pytest.mark.long
def test_what_was_acknowledged_is_known_through_many_lives() -> None:
    check(60, 80)()
