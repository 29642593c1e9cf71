"""What is left of what was acknowledged: asked for in every way, and compared with what the tasks have done."""

from __future__ import annotations

import time
from bisect import bisect
from collections import defaultdict
from collections.abc import Sized
from pathlib import Path

from headway.core.work.verdict import DEATHS_MOST

from tests.end_to_end.crash import BATCH, Acknowledged, Counts, each, keyed
from tests.protocol.wire import PATIENCE_S, Answer, Wire, request

# Codes by state.
CODES = {"succeeded": 200, "failed": 424, "cancelled": 410, "scheduled": 202}


def look(folder: Path, port: int, counts: Counts) -> None:
    """Wait until nothing runs, then ask for all that was acknowledged, and compare it with what the tasks did."""
    look_by_requests(port, counts)
    _effects(folder, counts)


def look_by_requests(port: int, counts: Counts) -> None:
    """Wait until nothing runs, then ask for all that was acknowledged."""
    with Wire(port) as wire:
        _wait_for_all(wire, len(counts.jobs))
        _statuses(wire, counts)
        _results(wire, counts)
        _keys(wire, counts)
        _batches(wire, counts)
        for state in CODES:
            _listed(wire, counts, state)


def _wait_for_all(wire: Wire, jobs: int) -> None:
    deadline = time.monotonic() + PATIENCE_S + jobs / 500
    while True:
        said = wire.ask(request("GET", "/stats")).json["jobs"]
        if not said["queued"] + said["running"] + said["retrying"]:
            return
        assert time.monotonic() < deadline, said
        time.sleep(0.02)


def _statuses(wire: Wire, counts: Counts) -> None:
    for path, answer in each(list(counts.jobs), wire, method="HEAD"):
        job, said = counts.jobs[path], answer.headers.get("job-state", "")
        if job.perhaps and said in ("scheduled", "cancelled"):
            job.state, job.perhaps = said, False
        if _was_given_up(job, answer):
            job.state, job.crashed = "failed", True
        if said in ("queued", "running", "retrying"):
            counts.stuck.append(path)
        elif (answer.status, said) != (CODES[job.state], job.state):
            counts.forget("statuses", f"{path} is {said}, not {job.state}")


def _was_given_up(job: Acknowledged, answer: Answer) -> bool:
    """Whether a job that nobody saw end has failed since more attempts than its retries and two were killed."""
    return (
        not job.seen_in
        and answer.headers.get("job-reason") == "crashed"
        and int(answer.headers["job-attempt"]) > DEATHS_MOST
    )


def _results(wire: Wire, counts: Counts) -> None:
    succeeded = [path for path, job in counts.jobs.items() if job.state == "succeeded"]
    for path, answer in each(succeeded, wire, "{}/result"):
        if answer.status != 200 or answer.json != counts.jobs[path].number:
            counts.forget("results", path)
    failed = [path for path, job in counts.jobs.items() if job.state == "failed"]
    for path, answer in each(failed, wire):
        job, detail = counts.jobs[path], answer.json.get("detail", "")
        told = (
            detail.startswith(("was running when the server died", "was running when its node died"))
            if job.crashed
            else detail == f"ValueError: no {job.number}"
        )
        if answer.status != 424 or not told:
            counts.forget("results", path)


def _keys(wire: Wire, counts: Counts) -> None:
    by_key = {job.key: job for job in counts.jobs.values() if job.key}
    for key, answer in each(list(by_key), wire, "/jobs/{}", method="HEAD"):
        if answer.headers.get("content-location") != by_key[key].path:
            counts.forget("keys", by_key[key].path)
    for job in by_key.values():
        answer = wire.ask(keyed(job.number))
        if (answer.headers.get("location"), answer.headers.get("idempotency-replayed")) != (job.path, "true"):
            counts.twice.append(job.path)


def _batches(wire: Wire, counts: Counts) -> None:
    for path, answer in each(list(counts.batches), wire):
        jobs = [job["id"] for job in answer.json.get("jobs", ())]
        known = counts.batches[path] or [f"/jobs/{job_id}" for job_id in jobs[:BATCH]]
        if answer.status != 200 or [f"/jobs/{job_id}" for job_id in jobs] != known or len(known) != BATCH:
            counts.forget("batches", path)


def _listed(wire: Wire, counts: Counts, state: str) -> None:
    target, listed = f"/jobs?state={state}&limit=1000", set[str]()
    while target:
        page = wire.ask(request("GET", target)).json
        here = [f"/jobs/{job['id']}" for job in page["jobs"]]
        assert not listed & set(here), "listed twice"
        listed.update(here)
        target = page["next"]
    for path, job in counts.jobs.items():
        if (path in listed) != (job.state == state):
            counts.forget("listed", f"{path} is {job.state}, listed as {state}: {path in listed}")


def _effects(folder: Path, counts: Counts) -> None:
    """Compare what the tasks did: each at least once, and again only in another life, if nobody saw it end before."""
    lives: dict[int, list[tuple[int, int]]] = defaultdict(list)
    times: dict[int, list[int]] = defaultdict(list)
    for line in (folder / "effects").read_text().splitlines():
        number, life, begun = map(int, line.split())
        # Of the server, and of the engine in it.
        lives[number].append((life, bisect(counts.killed_at, begun)))
        times[number].append(begun)
    counts.no_effect.clear()
    counts.effect_twice.clear()
    counts.ran_again = 0
    for job in counts.jobs.values():
        ran = lives[job.number]
        if is_missing(job, ran):
            counts.no_effect.append(job.number)
        if len(set(ran)) < len(ran) or (job.seen_at and max(times[job.number], default=0) > job.seen_at * 1e9):
            counts.effect_twice.append(job.number)
        counts.ran_again += len(ran) > 1


def is_missing(job: Acknowledged, ran: Sized) -> bool:
    """Whether a job that is over has not run, or one that never began has."""
    return not job.crashed and bool(len(ran)) != (job.state in ("succeeded", "failed"))
