"""The names of all keys: those of a partition begin with ``hw:{p}:``, and lie in one slot of a cluster.

docs/adr/0026 has the type and the content of each. A *sequence number* is ``n * P + p``: ``n``
counts up in partition ``p`` of ``P``. So an id names its partition, and any node derives each key
of a job.
"""

from __future__ import annotations

from zlib import crc32

# The hash with the layout's version, the secret of the ids, and the number of partitions.
META = b"hw:meta"
# The hash with the catalogue of each node.
CATALOGUES = b"hw:cat"


def partition_of_name(name: str, partitions: int) -> int:
    """Return the partition of all that goes by ``name``: a task with a limit, or an idempotency key."""
    return crc32(name.encode()) % partitions


# The partition of all jobs of tasks with ``max_concurrent``: their attempts are counted there.
LIMITED = 0


def number_of(key: bytes, kind: bytes) -> int:
    """Return the number in a key of this kind, 0 for another key."""
    parts = key.split(b":", 3)
    return int(parts[3]) if len(parts) == 4 and parts[2] == kind else 0


class Keyspace:
    """The keys of one partition."""

    __slots__ = (
        "audit",
        "counts",
        "dead",
        "events",
        "hold",
        "idle",
        "late",
        "marker",
        "nodes",
        "partition",
        "prefix",
        "ready",
        "watched",
    )

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.prefix = b"hw:{%d}:" % partition
        # The one key that scripts declare. The others they derive from it.
        self.counts = self.prefix + b"c"
        self.marker = self.prefix + b"m"
        self.ready = self.prefix + b"ready"
        self.hold = self.prefix + b"hold"
        self.nodes = self.prefix + b"nodes"
        # Nodes whose jobs are being taken.
        self.dead = self.prefix + b"dead"
        # Since when the heartbeats of nodes are missing.
        self.late = self.prefix + b"late"
        self.idle = self.prefix + b"idle"
        # The audit log, a sorted set, in the first partition only.
        self.audit = self.prefix + b"audit"
        self.events = self.prefix + b"ev"
        # Events are written while it is there. It holds the number of events to keep, and the first part of
        # their ids.
        self.watched = self.prefix + b"watched"

    def __repr__(self) -> str:
        return f"<Keyspace {self.prefix.decode()}>"

    def job(self, sequence: int) -> bytes:
        """The hash of a job's facts."""
        return b"%bj:%d" % (self.prefix, sequence)

    def record(self, sequence: int) -> bytes:
        """The terms and the payload of a job."""
        return b"%bp:%d" % (self.prefix, sequence)

    def result(self, sequence: int) -> bytes:
        """The result or the error of a finished job."""
        return b"%br:%d" % (self.prefix, sequence)

    def attempts(self, sequence: int) -> bytes:
        """The failed attempts at a job, a list."""
        return b"%ba:%d" % (self.prefix, sequence)

    def log(self, sequence: int) -> bytes:
        """The log of a job, a hash."""
        return b"%bl:%d" % (self.prefix, sequence)

    def batch(self, first: int) -> bytes:
        """The counts of a batch, a hash."""
        return b"%bb:%d" % (self.prefix, first)

    def key(self, text: str) -> bytes:
        """The job of an idempotency key."""
        return b"%bk:%b" % (self.prefix, text.encode())

    def tag(self, tag: str) -> bytes:
        """The jobs with a tag, a sorted set."""
        return b"%bg:%b" % (self.prefix, tag.encode())

    def line(self, priority: int, task: str) -> bytes:
        """The ready jobs of a task and a priority, a list."""
        return b"%bq:%d:%b" % (self.prefix, priority, task.encode())

    def order(self, sequence: int) -> bytes:
        """How far an order about many jobs came in this partition, a hash."""
        return b"%bo:%d" % (self.prefix, sequence)

    def minute(self, number: int) -> bytes:
        """The counts of a minute of the history, a hash."""
        return b"%by:%d" % (self.prefix, number)

    @property
    def batches(self) -> bytes:
        """The last batches, a list."""
        return self.prefix + b"bs"

    def ended(self, state: int) -> bytes:
        """The jobs with an outcome in the order of their ends, a list."""
        return b"%be:%d" % (self.prefix, state)

    def run(self, node: str) -> bytes:
        """The jobs in the hands of a node, a hash."""
        return b"%brun:%b" % (self.prefix, node.encode())

    def heartbeat(self, node: str) -> bytes:
        """The sign of life of a node."""
        return b"%bhb:%b" % (self.prefix, node.encode())

    def knows(self, node: str) -> bytes:
        """The tasks of a node with their lanes and limits, a hash."""
        return b"%bknows:%b" % (self.prefix, node.encode())

    def channel(self, node: str) -> bytes:
        """The channel on which a node is told of work and of cancellations."""
        return b"%bto:%b" % (self.prefix, node.encode())
