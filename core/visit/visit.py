"""A store as people look at it: by redis-py, one question after the other, beside the nodes.

No node uses this. Each partition is asked at the server that has its keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import redis
from headway.core.errors import HeadwayError
from headway.core.link.address import Address
from headway.core.link.dial import CONNECT_S, without_tls
from headway.core.link.greeting import meaning_of, no_primary
from headway.core.store.keys import CATALOGUES, META, Keyspace
from headway.core.store.layout import WRONG_TYPE, Layout, foreign
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import MovedError, NoPermissionError, RedisClusterException
from redis.retry import Retry
from redis.sentinel import Sentinel

# Seconds for an answer. A connection that is lost is made again once.
TIMEOUT_S = 10.0
RETRIES = 1
# What redis-py raises. The second is no RedisError.
ERRORS = (redis.RedisError, RedisClusterException)
# Keys that one SCAN asks for.
SCAN_MOST = 1000
WRITE_LAYOUT = """if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV)) return 1"""


class VisitError(HeadwayError):
    """The store cannot be asked. The line says what to do."""

    reason = "store"
    title = "The store cannot be asked"


class VisitedPartition:
    """The keys of one partition, and the server that has them."""

    def __init__(self, number: int, client: redis.Redis) -> None:
        self.number = number
        self.keys = Keyspace(number)
        self.client = client

    def names(self, pattern: bytes) -> Iterator[bytes]:
        """Yield the rest of each key that begins with ``pattern``, once."""
        prefix = self.keys.prefix + pattern
        # A pattern for SCAN. Names of tasks and texts of keys may have its signs, the prefix has not.
        seen = set()
        for name in self.client.scan_iter(match=prefix + b"*", count=SCAN_MOST):
            if name not in seen:
                seen.add(name)
                yield name[len(prefix) :]

    def hash(self, name: bytes) -> dict[bytes, bytes]:
        """Return a hash of the partition."""
        found: Any = self.client.hgetall(self.keys.prefix + name)
        return dict(found)


class Visit:
    """The store at ``address``. Raises VisitError, or ConfigError if its keys are of another version."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._client, self._cluster = _connect(address)
        try:
            found: Any = self._client.hgetall(META)
        except ERRORS as error:
            self.close()
            if WRONG_TYPE in str(error):
                raise VisitError(str(foreign(address))) from None
            raise _refused(address, error) from None
        # None: there is no queue in it.
        self.layout = Layout.read(found, address) if found else None

    @property
    def partitions(self) -> list[VisitedPartition]:
        """All partitions, in the order of their numbers."""
        return [self.partition(number) for number in range(self.known.partitions)]

    @property
    def known(self) -> Layout:
        """What nodes agree on. Raises VisitError if there is no queue."""
        if self.layout is None:
            raise VisitError(f"{self.address}: has no keys of Headway: start a node on it, or import into it")
        return self.layout

    def partition(self, number: int) -> VisitedPartition:
        """Return a partition, there or not."""
        if self._cluster is None:
            return VisitedPartition(number, self._client)
        node = self._cluster.get_node_from_key(Keyspace(number).counts.decode())
        return VisitedPartition(number, self._cluster.get_redis_connection(node))

    def servers(self) -> list[redis.Redis]:
        """Return the servers that have keys."""
        if self._cluster is None:
            return [self._client]
        return [self._cluster.get_redis_connection(node) for node in self._cluster.get_primaries()]

    def catalogues(self) -> dict[bytes, bytes]:
        """Return what each node says of itself, JSON by its name."""
        found: Any = self._client.hgetall(CATALOGUES)
        return dict(found)

    def write_layout(self, layout: Layout) -> bool:
        """Write down what nodes agree on, unless that is there. Return whether it was written."""
        words = [word for pair in layout.fields().items() for word in pair]
        if not self._client.eval(WRITE_LAYOUT, 1, META, *words):
            return False
        self.layout = layout
        return True

    def close(self) -> None:
        """Close all connections."""
        self._client.close()


@contextmanager
def opened(address: Address) -> Iterator[Visit]:
    """Open a store, and turn what redis-py raises into VisitError."""
    store = Visit(address)
    try:
        yield store
    except ERRORS as error:
        raise _refused(address, error) from None
    finally:
        store.close()


def _refused(address: Address, error: Exception) -> VisitError:
    if isinstance(error, MovedError):
        return VisitError(f"{address}: is a cluster. Add ?cluster=true")
    if isinstance(error, RedisClusterException) and "cluster mode is not enabled" in str(error).casefold():
        return VisitError(f"{address}: is no cluster. Leave cluster=true out")
    text = " ".join(str(error).split())
    if told := meaning_of(text, address):
        return VisitError(f"engine: {told}")
    if isinstance(error, redis.TimeoutError):
        text += without_tls(address)
    return VisitError(f"engine: {address} cannot be asked: {text}")


def _connect(address: Address) -> tuple[Any, RedisCluster | None]:
    """Return a client of the store, and that of the cluster if it is one."""
    options: dict[str, Any] = {
        "username": address.user or None,
        "password": address.password or None,
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": CONNECT_S,
        # By default redis-py connects again for minutes, as to a store that takes TLS for a slow command.
        "retry": Retry(NoBackoff(), RETRIES),
        **_tls(address),
    }
    try:
        if address.sentinel:
            of_sentinels = {name: value for name, value in options.items() if name not in ("username", "password")}
            sentinel = Sentinel(list(address.hosts), sentinel_kwargs=of_sentinels, **of_sentinels)
            return sentinel.master_for(address.sentinel, db=address.database, **options), None
        if address.cluster:
            nodes = [ClusterNode(name, port) for name, port in address.hosts]
            cluster = RedisCluster(startup_nodes=nodes, **options)
            return cluster, cluster
        if address.path:
            return redis.Redis(unix_socket_path=address.path, db=address.database, **options), None
        return _primary(address, options), None
    except ERRORS as error:
        raise _refused(address, error) from None


def _primary(address: Address, options: Mapping[str, Any]) -> redis.Redis:
    """Return a client of the first host that is a primary."""
    why = VisitError(f"engine: {no_primary(address)}")
    for host in address.hosts:
        client = redis.Redis(host[0], host[1], db=address.database, **options)
        try:
            role: Any = client.execute_command("ROLE")
            if role[0] in (b"master", "master"):
                return client
        except NoPermissionError:
            return client
        except ERRORS as error:
            why = _refused(address.at(host), error)
        client.close()
    raise why


def _tls(address: Address) -> dict[str, Any]:
    if not address.tls:
        return {}
    options: dict[str, Any] = {"ssl": True}
    if address.ca:
        options["ssl_ca_certs"] = address.ca
    if address.certificate:
        options |= {"ssl_certfile": address.certificate, "ssl_keyfile": address.key}
    return options
