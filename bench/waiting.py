"""Memory per waiting client: ``python -m bench.waiting``.

One Headway server and one connection for each client. Each asks once how its job is, then asks again with
``Prefer: wait``, so that its answer is held. What resident memory grows by between those two moments is the price of
waiting; what it grew by before is the price of a connection that was used.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench import report
from bench.measure import HOST, BenchError, allow_files, machine, rss_bytes
from bench.peers.requests import head_request, submit
from bench.polling.crowd import ask
from bench.process import Process, end_cleanly, free_port, running

JOB = {"task": "sleep", "payload": {"seconds": 3600}, "timeout": 3600}
PREFER = b"Prefer: wait=30\r\n\r\n"
# Most that it may cost to wait, in bytes, for each client.
BYTES_LIMIT = 2048
PATIENCE_S = 30.0


def main() -> int:
    """Measure, print, write; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.waiting", description=__doc__)
    parser.add_argument("--clients", type=int, default=10_000)
    clients = parser.parse_args().clients
    end_cleanly()
    how = machine("waiting")
    try:
        allow_files(clients)
        connection, waiting = measure(clients)
    except (BenchError, OSError) as error:
        print(f"bench-waiting: {error}", file=sys.stderr)
        return 1
    good = waiting < BYTES_LIMIT
    rows = [["a connection that has asked", f"{connection:,.0f}"], ["its answer held, on top", f"{waiting:,.0f}"]]
    verdict = f"{'PASS' if good else 'FAIL'}: {waiting:,.0f} bytes to wait, less than {BYTES_LIMIT:,}"
    how["method"] = (
        f"{clients:,} clients, each with a connection and a job; RSS of one server, read from /proc/pid/statm"
    )
    text = "\n\n".join([report.table(["for each client", "bytes of RSS"], rows), f"- {verdict}", report.facts(how)])
    print(text)
    target: Path = report.folder("waiting")
    report.write(target, text, {"how": how, "connection": connection, "waiting": waiting, "limits met": good})
    print(f"written to {target}")
    return int(not good)


def measure(clients: int, job: Mapping[str, object] = JOB) -> tuple[float, float]:
    """Return the bytes that each client takes to be connected, and more to wait for its ``job``."""
    port = free_port()
    environment = {
        "HEADWAY_SERVER__PORT": str(port),
        "HEADWAY_QUEUE__SIZE": str(2 * clients),
        "HEADWAY_LIMITS__CONNECTIONS": str(clients + 100),
        "HEADWAY_TASKS": "[examples.tasks]",
        "HEADWAY_DRAIN_TIMEOUT": "0.1",
        "HEADWAY_JOURNAL__PATH": "null",
    }
    argv = [sys.executable, "-m", "headway", "serve"]
    with running(Process("Headway", argv, port, env=environment)) as server:
        paths = [submit(port, job) for _ in range(clients)]
        # What is brought in lazily by the first answers is not the clients'.
        with _connected(port, 100) as some:
            _ask(some, port, paths, b"\r\n")
            _read(some)
        before = rss_bytes(server.pids)
        with _connected(port, clients) as opened:
            _ask(opened, port, paths, b"\r\n")
            _read(opened)
            connected = rss_bytes(server.pids)
            _ask(opened, port, paths, PREFER)
            _wait_until_all_wait(port, clients)
            return (connected - before) / clients, (rss_bytes(server.pids) - connected) / clients


@contextlib.contextmanager
def _connected(port: int, clients: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection((HOST, port), PATIENCE_S)) for _ in range(clients)]


def _ask(opened: list[socket.socket], port: int, paths: list[str], end: bytes) -> None:
    for client, path in zip(opened, paths, strict=False):
        client.sendall(head_request(port, path)[: -len(b"\r\n")] + end)


def _read(opened: list[socket.socket]) -> None:
    for client in opened:
        if not client.recv(4096).startswith(b"HTTP/1.1 202"):
            raise BenchError("a job that is not over was not answered with 202")


def _wait_until_all_wait(port: int, clients: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while (waiting := ask(port, "/stats")["waiting_clients"]) < clients:
        if time.monotonic() > deadline:
            raise BenchError(f"only {waiting} of {clients} answers are held after {PATIENCE_S:g} s")
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
