"""The truth about a partition: each count and index against the jobs themselves."""

from __future__ import annotations

import json
from collections import Counter

from headway.core.job import State

from tests.core.store.partition import Partition

WAITING = {State.SCHEDULED, State.QUEUED, State.RETRYING}


def faults(partition: Partition) -> list[str]:
    """Return what does not fit together."""
    client, prefix = partition.client, partition.keys.prefix
    jobs = {
        int(key.rpartition(b":")[2]): {field.decode(): value.decode() for field, value in client.hgetall(key).items()}
        for key in client.scan_iter(match=prefix + b"j:*")
    }
    # Some expire while they are read.
    jobs = {number: job for number, job in jobs.items() if job}
    states = Counter(State(int(job["s"])) for job in jobs.values())
    found: list[str] = []

    def same(what: str, told: object, true: object) -> None:
        if told != true:
            found.append(f"{what}: {told!r} is told, {true!r} is true")

    counts = {field.decode(): int(value) for field, value in client.hgetall(prefix + b"c").items()}
    unfinished = {number: job for number, job in jobs.items() if int(job["s"]) < State.SUCCEEDED}
    for state in (State.SCHEDULED, State.QUEUED, State.RUNNING, State.RETRYING):
        same(state.name, counts.get(f"s:{int(state)}", 0), states[state])
    outside = [job for job in unfinished.values() if not job["k"].startswith("headway.")]
    same("waiting", counts.get("waiting", 0), sum(State(int(job["s"])) in WAITING for job in outside))
    same("own", counts.get("own", 0), len(unfinished) - len(outside))
    same("bytes", counts.get("bytes", 0), sum(int(job["z"]) for job in unfinished.values()))
    tasks = Counter(job["k"] for job in unfinished.values())
    same("unfinished", {f[2:]: n for f, n in counts.items() if f.startswith("u:") and n}, dict(tasks))
    lines = Counter(f"{job['i']}:{job['k']}" for job in unfinished.values() if job["s"] == "2")
    same("ready", {k.decode(): int(v) for k, v in client.hgetall(prefix + b"ready").items()}, dict(lines))
    entries = Counter(
        f"{entry.decode()} in {key.decode()}"
        for key in client.scan_iter(match=prefix + b"q:*")
        for entry in client.lrange(key, 0, -1)
    )
    for number, job in unfinished.items():
        name = f"{number}:{job['v']}" if "v" in job else str(number)
        line = f"{prefix.decode()}q:{job['i']}:{job['k']}"
        same(f"entries of {number}", entries[f"{name} in {line}"], int(job["s"] == "2"))
        same(f"record of {number}", client.exists(partition.keys.record(number)), 1)
        same(f"ttl of {number}", client.pttl(partition.keys.job(number)), -1)
    delayed = {int(number): str(int(due)) for number, due in client.zrange(prefix + b"d", 0, -1, withscores=True)}
    same("delayed", delayed, {number: job["D"] for number, job in unfinished.items() if job["s"] in "14"})
    guarded = {int(number): str(int(due)) for number, due in client.zrange(prefix + b"x", 0, -1, withscores=True)}
    same("guarded", guarded, {n: job["x"] for n, job in unfinished.items() if job["s"] != "3" and "x" in job})
    hands = {
        int(number): (key.decode().rpartition(":")[2], attempt.decode())
        for key in client.scan_iter(match=prefix + b"run:*")
        for number, attempt in client.hgetall(key).items()
    }
    same("in hands", hands, {n: (job["w"], job["a"]) for n, job in unfinished.items() if job["s"] == "3"})
    held: Counter[str] = Counter()
    for key in client.scan_iter(match=prefix + b"held:*"):
        held.update({task.decode(): int(count) for task, count in client.hgetall(key).items()})
    same("busy", {k.decode(): int(v) for k, v in client.hgetall(prefix + b"busy").items()}, dict(held))
    tags = Counter(tag for job in unfinished.values() for tag in json.loads(job.get("T", "[]")))
    told = {tag.decode(): int(text.partition(b":")[0]) for tag, text in client.hgetall(prefix + b"tags").items()}
    same("tags", told, dict(tags))
    batches: Counter[str] = Counter(job["B"].partition(":")[0] for job in unfinished.values() if "B" in job)
    pending = {}
    for key in client.scan_iter(match=prefix + b"b:*"):
        left = int(client.hget(key, "p") or 0)
        if left:
            pending[key.decode().rpartition(":")[2]] = left
    same("pending", pending, dict(batches))
    return found
