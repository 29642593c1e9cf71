"""A crowd that comes back at once: ``python -m bench.connections``.

20,000 clients connect within two seconds, as after a deploy, and each asks for a job as soon as it is connected. Then
all stay, and say nothing. Server and clients have a core each. How late each client has its answer is counted from the
moment at which it was to connect, so clients that wait for their turn in this process count as late, too.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import resource
import select
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import beside, report
from bench.measure import HOST, ROOT, SPARE_FILES, BenchError, Window, allow_files, cores, machine, pin, rss_bytes
from bench.peers.requests import head_request, job_in
from bench.process import Process, end_cleanly, free_port, running

SERVER_CORE, CROWD_CORE = 0, 1
# The last answer comes this long after the last client was to connect, at the latest.
LATE_S = 1.0
# Most that an idle connection may take.
BYTES_LIMIT = 6000
PATIENCE_S = 30.0
# For the server to be done with what came last.
IDLE_S = 2.0
SOME = 500
EVENTS_MOST = 1024
# The largest backlog that Linux gives by default.
BACKLOG = 4096
CLIENTS_OF_ADDRESS = 10_000
# Of ip(7); socket has it from Python 3.12 on.
BIND_ADDRESS_NO_PORT = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a crowd that came at once met."""

    clients: int
    answered: int
    refused: int
    # From the first client's to the last client's connect, and to the last answer.
    opened_s: float
    served_s: float
    p50_ms: float
    p99_ms: float
    most_ms: float
    cpu_us: float
    idle_bytes: float


def main() -> int:
    """Measure, print, write; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.connections", description=__doc__)
    parser.add_argument("--clients", type=int, default=20_000)
    parser.add_argument("--within", type=float, default=2.0, help="seconds in which they connect")
    parser.add_argument("--beside", metavar="COMMIT", help="let them come to the server of this commit first")
    options = parser.parse_args()
    end_cleanly()
    how = machine("connections")
    try:
        cores(2)
        clients = _allowed(options.clients)
        allow_files(clients + SOME)
        within = options.within * clients / options.clients
        both = {}
        if options.beside:
            name = beside.name_of(options.beside)
            both[name] = measure(clients, within, beside.checkout(name))
        found = both["this"] = measure(clients, within)
    except (BenchError, OSError) as error:
        print(f"bench-connections: {error}", file=sys.stderr)
        return 1
    lines, good = verdicts(found, options.within)
    if clients < options.clients:
        lines.append(f"- {clients:,} clients instead of {options.clients:,}, as fast: ulimit -Hn allows no more")
    columns = [_column(of_one) for of_one in both.values()]
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    text = "\n\n".join([report.table(["measured", *both], rows), "\n".join(lines), report.facts(how)])
    print(text)
    target: Path = report.folder("connections")
    report.write(
        target, text, {"how": how, "found": {name: asdict(of_one) for name, of_one in both.items()}, "verdicts": lines}
    )
    print(f"written to {target}")
    return int(not good)


def _column(found: Found) -> dict[str, str]:
    return {
        "clients, and answered": f"{found.clients:,}, {found.answered:,}",
        "all had connected after, s": f"{found.opened_s:.2f}",
        "all were answered after, s": f"{found.served_s:.2f}",
        "an answer came after, p50, p99 and most, ms": f"{found.p50_ms:.0f}, {found.p99_ms:.0f}, {found.most_ms:.0f}",
        "CPU of the server for each client, µs": f"{found.cpu_us:.0f}",
        "RSS for each idle connection, bytes": f"{found.idle_bytes:,.0f}",
    }


def _allowed(clients: int) -> int:
    """Return how many of ``clients`` the limit of open files allows. A server needs some files besides theirs."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return clients if most == resource.RLIM_INFINITY else min(clients, most - SOME - SPARE_FILES)


def verdicts(found: Found, within: float) -> tuple[list[str], bool]:
    """Return what must hold and whether it does, a line each, and whether all of it does."""
    judged = [
        (
            found.answered == found.clients and not found.refused,
            f"{found.clients:,} clients are answered, none refused",
        ),
        (
            found.served_s <= within + LATE_S,
            f"the last of them {found.served_s:.2f} s after the first came, at most {within + LATE_S:g}",
        ),
        (found.idle_bytes <= BYTES_LIMIT, f"{found.idle_bytes:,.0f} bytes for an idle one, at most {BYTES_LIMIT:,}"),
    ]
    return [f"- {'PASS' if good else 'FAIL'}: {text}" for good, text in judged], all(good for good, _ in judged)


def measure(clients: int, within: float, folder: Path = ROOT) -> Found:
    """Let ``clients`` come to a server of the checkout in ``folder``. Raises BenchError."""
    port = free_port()
    environment = {
        "HEADWAY_SERVER__PORT": str(port),
        "HEADWAY_SERVER__BACKLOG": str(BACKLOG),
        "HEADWAY_LIMITS__CONNECTIONS": str(clients + 100),
        "HEADWAY_TASKS": "[examples.tasks]",
        "HEADWAY_DRAIN_TIMEOUT": "0.1",
        "HEADWAY_JOURNAL__PATH": "null",
    }
    argv = [sys.executable, "-m", "headway", "serve"]
    server = Process("headway", argv, port, SERVER_CORE, environment, folder=folder)
    with running(server):
        pin(CROWD_CORE)
        request = head_request(port, job_in(port, "finished"))
        # What is brought in lazily by the first clients is not the others'.
        with contextlib.ExitStack() as some:
            _Crowd(some, port, request, min(clients, SOME)).come(0.1)
        time.sleep(IDLE_S)
        before, window = rss_bytes(server.pids), Window(server.pids)
        with contextlib.ExitStack() as opened:
            crowd = _Crowd(opened, port, request, clients)
            crowd.come(within)
            time.sleep(IDLE_S)
            load = window.load(clients, crowd.served_s)
            idle = (rss_bytes(server.pids) - before) / clients
        if not crowd.took_s:
            raise BenchError("no client was answered")
        took = sorted(crowd.took_s)
        return Found(
            clients=clients,
            answered=len(took),
            refused=crowd.refused,
            opened_s=crowd.opened_s,
            served_s=crowd.served_s,
            p50_ms=statistics.median(took) * 1000,
            p99_ms=took[int(len(took) * 0.99)] * 1000,
            most_ms=took[-1] * 1000,
            cpu_us=load.cpu_us,
            idle_bytes=idle,
        )


class _Crowd:
    """Clients that connect and ask once, each on a connection that stays until ``stack`` ends."""

    def __init__(self, stack: contextlib.ExitStack, port: int, request: bytes, clients: int) -> None:
        self._stack = stack
        self._port = port
        self._request = request
        self._clients = clients
        self._epoll = select.epoll()
        stack.callback(self._epoll.close)
        # By descriptor: the socket, and when it was to connect.
        self._open: dict[int, tuple[socket.socket, float]] = {}
        # From when each client was to connect to its answer.
        self.took_s: list[float] = []
        self.refused = 0
        self.opened_s = self.served_s = 0.0
        self._connected = 0

    def come(self, within: float) -> None:
        """Connect evenly within so many seconds, and wait for the answers."""
        begin = time.perf_counter()
        for number in range(self._clients):
            due = begin + within * number / self._clients
            while (left := due - time.perf_counter()) > 0 or number % 64 == 0:
                self._look(max(left, 0.0), begin)
                if left <= 0:
                    break
            self._connect(due)
        until = time.perf_counter() + PATIENCE_S
        while len(self.took_s) + self.refused < self._clients and time.perf_counter() < until:
            self._look(0.1, begin)

    def _connect(self, due: float) -> None:
        client = self._stack.enter_context(socket.socket())
        client.setblocking(False)
        # After half of the ports of one address the kernel looks for a free one for a millisecond.
        client.setsockopt(socket.SOL_IP, BIND_ADDRESS_NO_PORT, 1)
        client.bind((f"127.0.0.{2 + len(self._open) // CLIENTS_OF_ADDRESS}", 0))
        found = client.connect_ex((HOST, self._port))
        if found not in (0, errno.EINPROGRESS):
            raise BenchError(f"a client cannot connect: {errno.errorcode[found]}")
        self._open[client.fileno()] = client, due
        self._epoll.register(client.fileno(), select.EPOLLOUT)

    def _look(self, seconds: float, begin: float) -> None:
        for number, event in self._events(seconds):
            client, due = self._open[number]
            now = time.perf_counter()
            try:
                if event & select.EPOLLOUT and not event & select.EPOLLERR:
                    self._connected += 1
                    if self._connected == self._clients:
                        self.opened_s = now - begin
                    client.send(self._request)
                    self._epoll.modify(number, select.EPOLLIN)
                    continue
                answered = client.recv(4096).startswith(b"HTTP/1.1 200")
            except OSError:
                answered = False
            self._epoll.unregister(number)
            if answered:
                self.took_s.append(now - due)
                self.served_s = now - begin
            else:
                self.refused += 1

    def _events(self, seconds: float) -> Iterator[tuple[int, int]]:
        yield from self._epoll.poll(seconds, EVENTS_MOST)


if __name__ == "__main__":
    sys.exit(main())
