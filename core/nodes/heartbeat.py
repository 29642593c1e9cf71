"""The sign of life of a node, from a thread and a connection of its own.

It beats every BEAT_S in each partition in which the node can claim jobs, as far as the loop has
last said. So a loop that is busy for a minute does not look dead, and a node whose link is lost, or
whose process is stopped, does. A heartbeat lasts for ALIVE_MS in the store.

redis-py is imported here, when the thread begins: it knows the ways to a cluster and by Sentinel.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from headway.core.link.address import Address
from headway.core.store.keys import Keyspace

log = logging.getLogger(__name__)

BEAT_S = 2.0
# Seconds after which a call has failed.
CALL_S = 1.0
# Beats without success after which the node says that it is not ready.
MISSED_MOST = 3


class Heartbeat:
    """Beats under ``name``, which may change. ``is_fit`` tells whether the node can claim; any thread may call it."""

    def __init__(
        self,
        connect: Callable[[], Any],
        name: str,
        places: Sequence[tuple[Keyspace, Callable[[], bool]]],
        *,
        alive_ms: int,
        beat_s: float = BEAT_S,
    ) -> None:
        self.name = name
        # Why the last beat failed. Empty: it did not.
        self.why = ""
        self._connect = connect
        self._places = places
        self._alive_ms = alive_ms
        self._beat_s = beat_s
        self._beaten_at = time.monotonic()
        self._now = threading.Event()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._beat_on, name="headway-heartbeat", daemon=True)

    @property
    def is_missed(self) -> bool:
        """Whether the last beats have failed."""
        return bool(self.why) and time.monotonic() - self._beaten_at > MISSED_MOST * self._beat_s

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def beat(self) -> None:
        """Beat now."""
        self._now.set()

    def stop(self) -> None:
        """Beat no more. A beat that is under way is waited for, at most twice CALL_S."""
        self._is_stopped = True
        self._now.set()
        if self._thread.is_alive():
            self._thread.join(2 * CALL_S)

    def _beat_on(self) -> None:
        client: Any = None
        while not self._is_stopped:
            self._now.clear()
            why = ""
            for keys, is_fit in self._places:
                # A part of a cluster that is away keeps no other from its beat.
                try:
                    if is_fit():
                        client = client or self._connect()
                        client.set(keys.heartbeat(self.name), 1, px=self._alive_ms)
                        self._beaten_at = time.monotonic()
                except Exception as error:  # noqa: BLE001 — a thread that ended would be the end of the node
                    why = " ".join(str(error).split()) or type(error).__name__
            self.why = why
            if why and client is not None:
                # The next beat looks for the way anew: another host may be the primary now.
                client.close()
                client = None
            self._now.wait(self._beat_s)
        if client is not None:
            client.close()


def client_of(address: Address, name: str) -> Any:
    """Return a client of redis-py for calls that wait, none of which takes longer than CALL_S."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    options: dict[str, Any] = {
        "username": address.user or None,
        "password": address.password or None,
        "socket_timeout": CALL_S,
        "socket_connect_timeout": CALL_S,
        "client_name": name,
    }
    if address.tls:
        options |= {"ssl": True, "ssl_ca_certs": address.ca or None}
        options |= {"ssl_certfile": address.certificate or None, "ssl_keyfile": address.key or None}
    if address.cluster:
        nodes = [redis.cluster.ClusterNode(host, port) for host, port in address.hosts]
        return redis.RedisCluster(startup_nodes=nodes, require_full_coverage=False, **options)
    options |= {"db": address.database, "retry": Retry(NoBackoff(), 0)}
    if address.path:
        return redis.Redis(unix_socket_path=address.path, **options)
    if address.sentinel:
        return _by_sentinel(address, options)
    found = redis.ConnectionError("it has no host")
    for host, port in address.hosts:
        client = redis.Redis(host=host, port=port, **options)
        try:
            if len(address.hosts) == 1 or client.execute_command("ROLE")[0] in (b"master", "master"):
                return client
        except redis.RedisError as error:
            found = error
        client.close()
    raise found


def _by_sentinel(address: Address, options: dict[str, Any]) -> Any:
    """Return a client of the primary. A Sentinel may want the password of the store, or none."""
    from redis.sentinel import MasterNotFoundError, Sentinel

    secret = {"username": address.user or None, "password": address.password or None}
    asked: list[dict[str, Any]] = [{}, secret] if address.password else [{}]
    for number, credentials in enumerate(asked, 1):
        sentinel = Sentinel(address.hosts, sentinel_kwargs={"socket_timeout": CALL_S, **credentials}, **options)
        try:
            sentinel.discover_master(address.sentinel)
        except MasterNotFoundError:
            if number == len(asked):
                raise
            continue
        return sentinel.master_for(address.sentinel)
    raise AssertionError
