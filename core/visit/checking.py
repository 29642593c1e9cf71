"""Whether a store is whole: each unfinished job is in one place, and all counts agree with the jobs.

Nodes may work meanwhile, and between two questions a job moves. So a fault counts if it is there in
LOOKS looks, one after the other.

``repair`` builds the places anew from the jobs. No job is touched until then, so it can be repeated.
It needs all nodes to be stopped, because a job in the hands of a node would run twice.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from headway.core.errors import HeadwayError
from headway.core.job import ACTIVE, TERMINAL, WAITING, State
from headway.core.store.scripts import script
from headway.core.task import OWN_PREFIX
from headway.core.visit.departure import check_idle
from headway.core.visit.visit import Visit, VisitedPartition

# Looks in which a fault has to be, and seconds between two of them.
LOOKS = 3
BETWEEN_S = 0.5
# Seconds within which the jobs of a dead node are in their lines again.
RECLAIM_S = 15.0
# Jobs that are read at once.
CHUNK = 500
FIELDS = (b"s", b"k", b"i", b"a", b"w", b"v", b"x", b"z", b"B")
# The kinds of keys of a partition, up to the name in them.
KINDS = (
    *("m", "n", "c", "j:", "p:", "r:", "a:", "l:", "q:", "ready", "d", "x", "run:", "busy", "held:", "nodes", "dead"),
    *("hb:", "knows:", "idle", "e:", "k:", "ks", "b:", "g:", "tags", "hold", "calls", "steps", "ev", "watched"),
    *("blocks", "at", "o:", "bs", "y:", "late", "audit"),
)

PLACE = script("place")


class _Facts(NamedTuple):
    """A job, as far as its place goes."""

    state: State
    task: str
    priority: str
    attempt: str
    node: str
    # Of its entry in a line.
    version: str
    deadline: bool
    payload_bytes: int
    batch: int
    has_record: bool
    expires: bool


def faults(store: Visit) -> list[str]:
    """Return a line for each fault. It reads all jobs: a few seconds for a million."""
    wrong = set(_look(store))
    begun = time.monotonic()
    looks = 1
    while wrong and (looks < LOOKS or (_of_nodes(wrong) and time.monotonic() - begun < RECLAIM_S)):
        time.sleep(BETWEEN_S)
        wrong &= set(_look(store))
        looks += 1
    return sorted(wrong)


def repair(store: Visit) -> list[str]:
    """Put all unfinished jobs in their places again, unless nothing is wrong. Return the faults that there were.

    Raises MoveError if a node is alive, or RepairError if faults are left.
    """
    check_idle(store)
    wrong = set(_look(store))
    if wrong:
        for partition in store.partitions:
            _rebuild(partition)
        if left := sorted(_look(store)):
            raise RepairError(f"{store.address}: cannot be repaired: {left[0]}")
    return sorted(wrong)


class RepairError(HeadwayError):
    """Faults are left that nothing in the store tells the right of."""

    reason = "repair"
    title = "Cannot be repaired"


def _of_nodes(wrong: set[str]) -> bool:
    return any("has no heartbeat" in line for line in wrong)


def _look(store: Visit) -> Iterator[str]:
    """Yield the faults of one look."""
    layout = store.known
    for server in store.servers():
        for name in server.scan_iter(match=b"hw:*", count=1000):
            kind = name.partition(b"}:")[2].decode(errors="replace")
            if name not in (b"hw:meta", b"hw:cat") and not any(
                kind.startswith(known) if known.endswith(":") else kind == known for known in KINDS
            ):
                yield f"key {name.decode(errors='replace')}: is of another version"
    for partition in store.partitions:
        marker: Any = partition.client.get(partition.keys.marker)
        if marker != layout.ids().marker:
            yield f"partition {partition.number}: its ids are not those of hw:meta"
        found = dict(_facts(partition))
        yield from _places(partition, found)
        yield from _counts(partition, found)
        yield from _nodes(partition)
        for sequence, facts in found.items():
            if facts.state in ACTIVE and not facts.has_record:
                yield f"job {sequence}: has no payload"
            if facts.state in TERMINAL and not facts.expires:
                yield f"job {sequence}: has ended and never expires"


def _facts(partition: VisitedPartition) -> Iterator[tuple[int, _Facts]]:
    keys = partition.keys
    numbers = iter(sorted(int(name) for name in partition.names(b"j:")))
    while some := list(islice(numbers, CHUNK)):
        with partition.client.pipeline(transaction=True) as pipe:
            for sequence in some:
                pipe.hmget(keys.job(sequence), *FIELDS)
                pipe.exists(keys.record(sequence))
                pipe.pttl(keys.job(sequence))
            answers: Any = pipe.execute()
        for sequence, of_job in zip(some, zip(*[iter(answers)] * 3, strict=True), strict=True):
            values, has_record, left_ms = of_job
            if values[0] is not None:
                yield sequence, _read(values, has_record=bool(has_record), expires=left_ms >= 0)


def _read(values: Sequence[bytes | None], *, has_record: bool, expires: bool) -> _Facts:
    found = {name.decode(): (value or b"").decode() for name, value in zip(FIELDS, values, strict=True)}
    return _Facts(
        state=State(int(found["s"])),
        task=found["k"],
        priority=found["i"],
        attempt=found["a"],
        node=found["w"],
        version=found["v"],
        deadline=bool(found["x"]),
        payload_bytes=int(found["z"] or 0),
        batch=int(found["B"].partition(":")[0] or 0),
        has_record=has_record,
        expires=expires,
    )


# The place of a job by its state.
LINE, DELAYED, HANDS = "a line", "the delayed jobs", "the hands of its node"
PLACES = {State.QUEUED: LINE, State.SCHEDULED: DELAYED, State.RETRYING: DELAYED, State.RUNNING: HANDS}


def _places(partition: VisitedPartition, found: dict[int, _Facts]) -> Iterator[str]:
    """Compare the place of each unfinished job with its state."""
    places: dict[int, list[str]] = defaultdict(list)
    for sequence, place in (*_in_lines(partition, found), *_in_hands(partition, found)):
        places[sequence].append(place)
    for sequence in _members(partition, b"d"):
        places[sequence].append(DELAYED)
        if sequence not in found:
            yield f"job {sequence}: is gone and among the delayed jobs"
    guarded = set(_members(partition, b"x"))
    for sequence, facts in found.items():
        if facts.state in ACTIVE and places[sequence] != [PLACES[facts.state]]:
            there = " and ".join(places[sequence]) or "no place"
            yield f"job {sequence}: is {facts.state.name.lower()} and in {there}"
        if facts.deadline and facts.state in WAITING and sequence not in guarded:
            yield f"job {sequence}: has a deadline that nothing looks at"


def _in_lines(partition: VisitedPartition, found: dict[int, _Facts]) -> Iterator[tuple[int, str]]:
    """Yield the jobs of all lines. Entries of before are passed over by a claim, and here."""
    for name in partition.names(b"q:"):
        priority, _, task = name.decode().partition(":")
        entries: Any = partition.client.lrange((partition.keys.prefix + b"q:" + name).decode(), 0, -1)
        for entry in entries:
            number, _, version = entry.decode().partition(":")
            facts = found.get(int(number))
            if facts and facts.state is State.QUEUED and (facts.priority, facts.version) == (priority, version):
                yield int(number), LINE if facts.task == task else "a line of another task"


def _in_hands(partition: VisitedPartition, found: dict[int, _Facts]) -> Iterator[tuple[int, str]]:
    for node in partition.names(b"run:"):
        for number, attempt in partition.hash(b"run:" + node).items():
            facts = found.get(int(number))
            is_owner = facts and (facts.node, facts.attempt) == (node.decode(), attempt.decode())
            yield int(number), HANDS if is_owner else f"the hands of {node.decode()}"


def _members(partition: VisitedPartition, name: bytes) -> list[int]:
    """Return the jobs of a sorted set."""
    found: Any = partition.client.zrange((partition.keys.prefix + name).decode(), 0, -1)
    return list(map(int, found))


def _counts(partition: VisitedPartition, found: dict[int, _Facts]) -> Iterator[str]:
    """Compare all counts with the jobs."""
    counted, ready, pending = wanted_counts(found.values())
    there = {name.decode(): int(value) for name, value in partition.hash(b"c").items()}
    for name in sorted(counted.keys() | {name for name in there if _is_counted(name)}):
        if difference := there.get(name, 0) - counted[name]:
            yield f"partition {partition.number}: the count {name} is {difference:+d} off"
    lines = {name.decode(): int(value) for name, value in partition.hash(b"ready").items()}
    for name in sorted(ready.keys() | lines.keys()):
        if difference := lines.get(name, 0) - ready[name]:
            yield f"partition {partition.number}: the count of ready jobs {name} is {difference:+d} off"
    for first, count in sorted(pending.items()):
        if difference := int(partition.hash(b"b:%d" % first).get(b"p", 0)) - count:
            yield f"batch {first}: its count of pending jobs is {difference:+d} off"


def wanted_counts(found: Any) -> tuple[Counter[str], Counter[str], Counter[int]]:
    """Return the counts of unfinished jobs, of ready ones by line, and of those pending by batch."""
    counted: Counter[str] = Counter()
    ready: Counter[str] = Counter()
    pending: Counter[int] = Counter()
    for facts in found:
        if facts.state not in ACTIVE:
            continue
        is_own = facts.task.startswith(OWN_PREFIX)
        counted[f"s:{int(facts.state)}"] += 1
        counted[f"u:{facts.task}"] += 1
        counted["bytes"] += facts.payload_bytes
        if is_own:
            counted["own"] += 1
        elif facts.state is not State.RUNNING:
            counted["waiting"] += 1
        if facts.state is State.QUEUED:
            ready[f"{facts.priority}:{facts.task}"] += 1
        if facts.batch:
            pending[facts.batch] += 1
    return counted, ready, pending


def _is_counted(name: str) -> bool:
    return name in ("waiting", "bytes", "own", "s:1", "s:2", "s:3", "s:4") or name.startswith("u:")


def _nodes(partition: VisitedPartition) -> Iterator[str]:
    """Look for jobs in the hands of nodes that are gone, while others live who would take them."""
    client, keys = partition.client, partition.keys
    nodes: Any = client.smembers((keys.prefix + b"nodes").decode())
    alive = {node for node in nodes if client.exists(keys.prefix + b"hb:" + node)}
    for node in partition.names(b"run:"):
        if alive and node not in alive:
            count: Any = client.hlen((keys.prefix + b"run:" + node).decode())
            if count:
                yield f"node {node.decode()}: has no heartbeat, and jobs in its hands"


def _rebuild(partition: VisitedPartition) -> None:
    """Delete all places of unfinished jobs, and put the jobs in them again."""
    client, keys = partition.client, partition.keys
    active = [sequence for sequence, facts in _facts(partition) if facts.state in ACTIVE]
    for kind in (b"q:", b"run:", b"held:", b"hb:", b"knows:"):
        for name in list(partition.names(kind)):
            client.unlink(keys.prefix + kind + name)
    for kind in (b"ready", b"d", b"x", b"busy", b"nodes", b"dead", b"idle", b"calls", b"steps", b"tags"):
        client.unlink(keys.prefix + kind)
    names = [name.decode() for name in partition.hash(b"c") if _is_counted(name.decode())]
    if names:
        client.hdel(keys.counts.decode(), *names)
    for first, count in wanted_counts(dict(_facts(partition)).values())[2].items():
        client.hset(keys.batch(first).decode(), "p", str(count))
    for at in range(0, len(active), CHUNK):
        client.eval(PLACE.text.decode(), 1, keys.counts.decode(), *active[at : at + CHUNK])
