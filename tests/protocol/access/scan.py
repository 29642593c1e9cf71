"""A request for each operation, by each kind of client, against a server that has jobs of all kinds."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from headway.protocol.access.scopes import SCOPES
from headway.protocol.access.token_file import TokenFile
from headway.protocol.api.routes import ROUTES

from tests.protocol.wire import PATIENCE_S, parse_head, request, submission

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "security.md"
# Columns of clients without tokens, where the server has none, and where it has.
NEAR, FAR, NOBODY, WRONG = "near", "far", "no token", "wrong"
COLUMNS = (NEAR, FAR, NOBODY, *SCOPES, WRONG)
# What a proxy says of a client on another machine.
FROM_AFAR = "X-Forwarded-For: 203.0.113.7"
JSON = "Content-Type: application/json"
DELAY_S = 1000
FAILS = submission("fail", {"message": "why"})
# The row of an operation has a cell for each column.
Table = dict[str, dict[str, str]]


def table(reads: str) -> Table:
    """Return the table of the page for a value of ``auth.reads``: operation to column to code."""
    section = PAGE.read_text().split(f"\n### With `auth.reads: {reads}`\n")[1].split("\n## ")[0].split("\n### ")[0]
    head, _, *rows = (
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in re.findall(r"^\|.*\|$", section, re.MULTILINE)
    )
    assert tuple(head[1:]) == COLUMNS
    found = {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}
    assert len(found) == len(rows), "an operation has two rows"
    return found


def operations(*, guarded: bool = False) -> Iterator[str]:
    """Yield each operation, or those that need something. One of a job can be asked for by its id or its key."""
    for route in ROUTES:
        for operation in route.operations:
            if guarded and not operation.needs.scopes:
                continue
            if "/jobs/{id}" not in route.path or operation.method != "PUT":
                yield f"{operation.method} {route.path}"
            if "/jobs/{id}" in route.path:
                yield f"{operation.method} {route.path.replace('{id}', '{key}')}"


def make_tokens(path: Path) -> dict[str, str]:
    """Write a file with a token of each scope, and one of all. Return the header line of each column."""
    file = TokenFile(path)
    lines = {scope: f"Authorization: Bearer {file.add(scope, [scope])}" for scope in SCOPES}
    lines[""] = f"Authorization: Bearer {file.add('boss', list(SCOPES))}"
    return lines | {WRONG: "Authorization: Bearer hw_" + 43 * "A"}


class Asker:
    """A client of the server at ``port``. Each request has the header ``lines``."""

    def __init__(self, port: int, *lines: str) -> None:
        self._port = port
        self.lines = lines
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, target: str, *lines: str, body: bytes | None = None) -> tuple[int, dict[str, str]]:
        """Send a request, and return the code and the header fields of its answer."""
        return (await self.read(request(method, target, *self.lines, *lines, body=body)))[:2]

    async def read(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send a request, and return its answer. Of a stream the event that it begins with."""
        reader, writer = await self.opened()
        writer.write(data)
        async with asyncio.timeout(PATIENCE_S):
            status, headers = parse_head((await reader.readuntil(b"\r\n\r\n"))[:-4])
            body = b""
            if headers.get("transfer-encoding"):
                if "job-state" in headers:
                    body = await reader.readuntil(b"\n\n")
                self.close()
            elif not data.startswith(b"HEAD "):
                body = await reader.readexactly(int(headers.get("content-length", 0)))
        return status, headers, body

    async def opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return the connection."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        return self._streams

    def close(self) -> None:
        """Disconnect."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


@asynccontextmanager
async def asking(port: int, *lines: str) -> AsyncIterator[Asker]:
    """Return a client for the block."""
    asker = Asker(port, *lines)
    try:
        yield asker
    finally:
        asker.close()


class Jobs:
    """Jobs of each kind, each with an id and a key, and a batch. ``boss`` submits them, who may do all."""

    def __init__(self, boss: Asker, task: str) -> None:
        self._boss = boss
        self.task = task
        self._made = 0
        self._paths: dict[str, dict[str, str]] = {}
        self.batch = ""

    async def begin(self) -> None:
        """Submit those that no operation changes, or that can be changed again."""
        delayed = submission(self.task, 1, delay=DELAY_S)
        for kind, content in (("succeeded", submission(self.task, 1)), ("failed", FAILS), ("delayed", delayed)):
            self._paths[kind] = await self.put(content)
        for kind in ("succeeded", "failed"):
            _, headers = await self._boss.ask("HEAD", self._paths[kind]["{id}"], "Prefer: wait=20")
            assert headers["job-state"] == kind
        self.batch = await self.posted_batch()

    async def path(self, method: str, route: str) -> str:
        """Return the path of a job that an operation is good for."""
        name = "{id}" if "{id}" in route else "{key}"
        if method == "PUT":
            return self._new_key()
        if method == "DELETE":
            return (await self.put(submission(self.task, 1, delay=DELAY_S)))[name]
        rest = route.partition("}")[2]
        waits = method == "PATCH" or rest in ("/payload", "/events")
        return self._paths["failed" if rest == "/retry" else "delayed" if waits else "succeeded"][name] + rest

    async def put(self, content: bytes) -> dict[str, str]:
        """Submit a job under a key of its own. Return its paths."""
        key = self._new_key()
        status, headers = await self._boss.ask("PUT", key, JSON, body=content)
        assert status == 202
        return {"{id}": headers["location"], "{key}": key}

    async def posted_batch(self) -> str:
        """Submit a batch that waits, and return its path."""
        jobs = [{"task": self.task, "payload": 1, "delay": DELAY_S}]
        status, headers = await self._boss.ask("POST", "/batches", JSON, body=json.dumps(jobs).encode())
        assert status == 202
        return headers["location"]

    def _new_key(self) -> str:
        self._made += 1
        return f"/jobs/order-{self._made}"


async def code_of(client: Asker, row: str, jobs: Jobs) -> str:
    """Return the code that ``client`` gets for the operation of a row, in a request that is good."""
    method, _, route = row.partition(" ")
    one = submission(jobs.task, 1)
    bodies = {
        "POST /jobs": one,
        "PUT /jobs/{key}": one,
        "PATCH /jobs/{id}": b'{"priority":7}',
        "PATCH /jobs/{key}": b'{"priority":7}',
        "POST /batches": b"[%b]" % one,
        "PATCH /tasks/{name}": b'{"dispatch":"run"}',
        "POST /tasks/{name}/jobs": b"1",
    }
    body = bodies.get(row, b"" if method == "POST" else None)
    if route.startswith("/jobs/{"):
        target = await jobs.path(method, route)
    elif route.startswith("/batches/{"):
        target = await jobs.posted_batch() if method == "DELETE" else jobs.batch
    elif row in ("POST /jobs/retry", "POST /jobs/cancel", "POST /jobs/delete"):
        # Of no job.
        target = f"{route}?tag=none"
    else:
        target = route.replace("{name}", "app.js" if route.startswith("/dashboard") else jobs.task)
    return str((await client.ask(method, target, *((JSON,) if body else ()), body=body))[0])
