"""A store as people are shown it: its counts, all of it as lines, and whether it is whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

import msgspec
import orjson
from headway.core.job import Reason, State
from headway.core.moved import MovedJob
from headway.core.shown import shown_payload, shown_result
from headway.core.visit.departure import jobs, nodes_alive
from headway.core.visit.visit import Visit, VisitedPartition

ACTIVE = range(State.SCHEDULED, State.SUCCEEDED)
OVER = range(State.SUCCEEDED, State.EXPIRED)


def stats(store: Visit) -> dict[str, object]:
    """Return counts, nodes, tasks and sizes. They cost the store no more than a few commands a node and task."""
    meta, partitions = store.known, store.partitions
    counts: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    keys = 0
    for partition in partitions:
        counts.update({name.decode(): int(value) for name, value in partition.hash(b"c").items()})
        keys += _length(partition, b"ks")
        for state in OVER:
            kept[State(state).name.lower()] += _length(partition, b"e:%d" % state)
    memory: Any = [server.info("memory") for server in store.servers()]
    return {
        "partitions": meta.partitions,
        "unfinished": {State(state).name.lower(): counts[f"s:{state}"] for state in ACTIVE},
        "ended": {State(state).name.lower(): counts[f"s:{state}"] for state in OVER},
        "kept": dict(kept),
        "payload_bytes": counts["bytes"],
        "retries": counts["retries"],
        "idempotency_keys": keys,
        "tasks": dict(_tasks(counts)),
        "nodes": dict(sorted(_nodes(store).items())),
        "durability": durability(store),
        "memory_bytes": sum(one["used_memory"] for one in memory),
        "memory_bytes_most": sum(one.get("maxmemory", 0) for one in memory) or None,
        "keys": sum(int(server.dbsize()) for server in store.servers()),
    }


def _length(partition: VisitedPartition, name: bytes) -> int:
    return int(partition.client.llen((partition.keys.prefix + name).decode()))


def _tasks(counts: Counter[str]) -> Iterator[tuple[str, dict[str, int]]]:
    names = {name[2:] for name in counts if name.startswith("u:")}
    names |= {name[2:].rpartition(":")[0] for name in counts if name.startswith("o:")}
    for name in sorted(names):
        over = {State(state).name.lower(): counts[f"o:{name}:{state}"] for state in OVER}
        yield name, {"unfinished": counts[f"u:{name}"]} | over


def _nodes(store: Visit) -> dict[str, dict[str, object]]:
    alive, catalogues = nodes_alive(store), store.catalogues()
    found: dict[str, dict[str, object]] = {}
    for partition in store.partitions:
        for node in partition.client.smembers((partition.keys.prefix + b"nodes").decode()):
            name = node.decode()
            facts = found.setdefault(name, {"alive": name in alive, "running": 0} | _said(catalogues.get(node)))
            running: Any = partition.client.hlen((partition.keys.prefix + b"run:" + node).decode())
            facts["running"] = int(str(facts["running"])) + int(running)
    return found


def _said(catalogue: bytes | None) -> dict[str, object]:
    """Return what a node says of itself, without its tasks' schemas."""
    try:
        said = msgspec.json.decode(catalogue or b"{}")
    except msgspec.DecodeError:
        return {}
    if not isinstance(said, dict):
        return {}
    facts: dict[str, object] = {name: value for name, value in said.items() if isinstance(value, str | int | float)}
    tasks = said.get("tasks")
    if isinstance(tasks, list | dict):
        facts["tasks"] = len(tasks)
    return facts


def durability(store: Visit) -> dict[str, object]:
    """Return how much an accepted job survives, by the settings of the servers."""
    said: dict[str, set[str]] = {}
    for server in store.servers():
        for name in ("appendonly", "appendfsync", "maxmemory-policy"):
            said.setdefault(name, set()).add(_setting(server, name))
    words = {name: "/".join(sorted(values)) for name, values in said.items()}
    is_disk = words["appendonly"] == "yes" and words["appendfsync"] == "always"
    return {"promise": "disk" if is_disk else "process", **words}


def _setting(server: Any, name: str) -> str:
    import redis

    try:
        found: dict[str, str] = server.config_get(name)
    except redis.ResponseError:
        # A managed store forbids CONFIG.
        return "unknown"
    return str(found.get(name, "unknown"))


def export(store: Visit, out: BinaryIO) -> int:
    """Write each job as a line of JSON, with payload and result. Return their number."""
    ids = store.known.ids()
    count = 0
    for partition in store.partitions:
        for job in jobs(partition):
            job_id = ids.write(job.sequence, ids.tag(job.sequence)).decode()
            out.write(orjson.dumps({"id": job_id} | _line(job), option=orjson.OPT_APPEND_NEWLINE))
            count += 1
    return count


def _line(job: MovedJob) -> dict[str, object]:
    """Return a job as the export of a journal has it."""
    terms = job.terms
    line: dict[str, object] = {
        "sequence": job.sequence,
        "state": job.state.name.lower(),
        "attempt": job.attempt,
        "reason": Reason(job.reason).text,
        "priority": job.priority,
        "task": job.task,
        "submitted": job.submitted,
        "started": job.started,
        "due": job.due,
        "ended": job.ended,
        "batch": job.batch,
        "until": job.until,
        "timeout": terms.timeout_s,
        "retries": terms.retries,
        "deadline": None if terms.deadline_s is None else job.submitted + terms.deadline_s,
    }
    if job.payload is not None:
        line["payload"] = shown_payload(terms.media_type, job.payload)
    if job.has_result:
        line["result"] = None if job.result is None else shown_result(*job.result)
    return line
