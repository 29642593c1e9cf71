"""What a client is told without the scope ``read``: nothing of payloads, results, logs, errors and, of others, ids.

Each GET of the table is made, and its whole answer is searched.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import NamedTuple

import pytest
import uvloop
from headway.core.order import Action
from headway.protocol.access.scopes import ADMIN, CANCEL, METRICS, READ, SCOPES, SUBMIT, VIEW

import headway
from tests.lives.server import LOOK_S, Lives, run
from tests.protocol.access.scan import JSON, NOBODY, Asker, asking, make_tokens, operations
from tests.protocol.wire import request, submission

PAYLOAD, RESULT, LOG, ERROR, RETRIED = (f"secret-{name}" for name in ("payload", "result", "log", "error", "retried"))
# Besides the errors: what only a traceback has.
TRACEBACK = "test_redaction.py"
TOLD_TO_READERS = {PAYLOAD, RESULT, LOG, ERROR, RETRIED, TRACEBACK}
UNTOLD = "the job failed: a token with the scope read is told why"
FAILS = submission("speak", {"error": ERROR, "of": PAYLOAD})
WITHOUT_READ = (NOBODY, *(scope for scope in SCOPES if scope != READ))
ID = re.compile(r"[0-9a-f]{36}")


async def speak(payload: object, context: headway.Context) -> str:
    """Return the result, or raise an error that has the payload."""
    context.log(LOG)
    if isinstance(payload, dict):
        raise ValueError(payload["error"])
    return RESULT


class Secretive:
    """A server with jobs that have secrets."""

    def __init__(self, folder: Path, reads: str = "id") -> None:
        self._folder = folder
        self._reads = reads
        self.lines: dict[str, str] = {}
        # The paths of jobs by state, and of a batch of such jobs.
        self.jobs: dict[str, str] = {}
        self.batch = ""

    async def __aenter__(self) -> Secretive:
        path = self._folder / "tokens.yaml"
        self.lines = make_tokens(path)
        self._lives = Lives(self._folder, [speak], journal=False)
        rests = {"backoff": 60, "backoff_max": 60}
        await self._lives.start(auth={"reads": self._reads, "tokens": str(path)}, jobs=rests)
        contents = {
            "succeeded": submission("speak", PAYLOAD),
            "failed": FAILS,
            "retrying": submission("speak", {"error": RETRIED}, retries=2),
            "scheduled": submission("speak", PAYLOAD, delay=1000),
        }
        async with self.client("") as boss:
            for number, (state, content) in enumerate(contents.items()):
                _, headers = await boss.ask("PUT", f"/jobs/key-{number}", JSON, body=content)
                self.jobs[state] = headers["location"]
                while headers.get("job-state") != state:
                    await asyncio.sleep(LOOK_S)
                    _, headers = await boss.ask("HEAD", self.jobs[state])
            jobs = b"[%b]" % b",".join(contents.values())
            _, headers = await boss.ask("POST", "/batches", JSON, body=jobs)
            self.batch = headers["location"]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._lives.end()

    def client(self, column: str) -> AbstractAsyncContextManager[Asker]:
        """Return a client with the token of a column."""
        return asking(self._lives.port, *filter(None, [self.lines.get(column)]))

    async def told(self, column: str) -> dict[str, str]:
        """Return all that a client is told by GET: of each operation, about each job, code, fields and content."""
        texts = {}
        async with self.client(column) as client:
            for row in operations(guarded=True):
                method, _, route = row.partition(" ")
                if method == "GET":
                    answers = [
                        await client.read(request("GET", target, *client.lines)) for target in self._targets(route)
                    ]
                    texts[row] = "\n".join(f"{status} {headers} {body.decode()}" for status, headers, body in answers)
        return texts

    def _targets(self, route: str) -> list[str]:
        rest = route.partition("}")[2]
        # A stream about a job that has ended is over at once, and the server waits for its client to see that.
        goes_on = ("retrying", "scheduled") if rest == "/events" else self.jobs
        if route.startswith("/jobs/{id}"):
            return [self.jobs[state] + rest for state in goes_on]
        if route.startswith("/jobs/{key}"):
            return [f"/jobs/key-{list(self.jobs).index(state)}{rest}" for state in goes_on]
        return [self.batch if route == "/batches/{id}" else route.replace("{name}", "speak")]


class All(NamedTuple):
    """All that clients are told by one server: by column and row."""

    reads: str
    texts: dict[str, dict[str, str]]
    jobs: list[str]
    batch: str


@pytest.fixture(scope="module", params=["id", "token"])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> All:
    """All that clients of each kind are told."""
    found: list[All] = []

    async def scan() -> None:
        async with Secretive(tmp_path_factory.mktemp("told"), request.param) as server:
            texts = {column: await server.told(column) for column in (NOBODY, *SCOPES)}
            found.append(All(request.param, texts, list(server.jobs.values()), server.batch))

    run(scan(), loop=uvloop.new_event_loop)
    return found[0]


def test_secrets_are_for_the_scope_read_alone(told: All) -> None:
    text = "".join(told.texts[READ].values())
    assert {secret for secret in TOLD_TO_READERS if secret in text} == TOLD_TO_READERS
    for column in WITHOUT_READ:
        found = {
            (row, secret) for row, text in told.texts[column].items() for secret in TOLD_TO_READERS if secret in text
        }
        # Who has the id may read the result.
        assert found == ({("GET /jobs/{id}/result", RESULT)} if told.reads == "id" else set()), column


def test_ids_are_for_those_who_may_use_them(told: All) -> None:
    ids = [path.rpartition("/")[2] for path in (*told.jobs, told.batch)]
    for column in (READ, VIEW):
        texts = {row: text for row, text in told.texts[column].items() if "{id}" not in row}
        named = {row for row, text in texts.items() if any(job_id in text for job_id in ids)}
        may = column == READ or told.reads == "token"
        assert named >= {"GET /jobs", "GET /batches"} if may else named == set(), column
        # Each has a name all the same.
        assert all(job_id[:-16] in texts["GET /jobs"] for job_id in ids[:-1])
        assert ids[-1][:-16] in texts["GET /batches"]


def test_who_has_neither_scope_nor_id_is_told_nothing_of_jobs(told: All) -> None:
    for column in (NOBODY, SUBMIT, CANCEL, ADMIN, METRICS):
        for row, text in told.texts[column].items():
            if "/jobs" in row or row in ("GET /events", "GET /batches", "GET /batches/{id}", "GET /history"):
                codes = {line[:3] for line in text.splitlines()}
                by_id = told.reads == "id" and "{id}" in row and not row.endswith(("/payload", "/log"))
                assert codes.isdisjoint({"401", "403"}) if by_id else codes <= {"401", "403"}, (column, row)


def test_the_document_of_a_failed_job_says_who_is_told_why(tmp_path: Path) -> None:
    """In each answer that has it: also to who waited, and to who submitted it."""

    async def test() -> None:
        async with Secretive(tmp_path) as server:
            for column in WITHOUT_READ:
                async with server.client(column) as client:
                    asked = [request("GET", server.jobs["failed"], *client.lines)]
                    asked += [request("GET", f"{server.jobs['failed']}/result", *client.lines, "Prefer: wait=5")]
                    if column == SUBMIT:
                        asked += [request("POST", "/jobs", *client.lines, JSON, "Prefer: wait=5", body=FAILS)]
                    for data in asked:
                        status, headers, body = await client.read(data)
                        document = json.loads(body)
                        assert (status, headers["job-reason"], document["detail"]) == (424, "error", UNTOLD)
                        assert "attempts" not in document

    run(test(), loop=uvloop.new_event_loop)


async def advance(payload: object, context: headway.Context) -> None:
    """Say how far it is, and wait."""
    context.progress(40, "page 12 of 30")
    await asyncio.Event().wait()


def test_a_message_and_tags_are_told_to_view_and_the_message_by_the_id(tmp_path: Path) -> None:
    """As docs/security.md says: neither is a place for secrets."""

    async def test() -> None:
        path = tmp_path / "tokens.yaml"
        lines = make_tokens(path)
        lives = Lives(tmp_path, [advance], journal=False)
        await lives.start(auth={"tokens": str(path)})
        async with asking(lives.port, lines[""]) as boss:
            body = submission("advance", tags=["of-ada"])
            _, headers = await boss.ask("POST", "/jobs", JSON, body=body)
            job = headers["location"]
            while "job-message" not in headers:
                await asyncio.sleep(LOOK_S)
                _, headers = await boss.ask("HEAD", job)
            for column in (NOBODY, VIEW):
                async with asking(lives.port, *filter(None, [lines.get(column)])) as client:
                    assert (await client.ask("HEAD", job))[1]["job-message"] == "page 12 of 30"
                    if column == VIEW:
                        for query in ("", "?tag=of-ada"):
                            listed = await client.read(request("GET", f"/jobs{query}", *client.lines))
                            (told,) = json.loads(listed[2])["jobs"]
                            assert (told["message"], told["tags"]) == ("page 12 of 30", ["of-ada"])
            await boss.ask("DELETE", job)
        await lives.end()

    run(test(), loop=uvloop.new_event_loop)


def test_who_may_not_read_errors_cannot_search_them(tmp_path: Path) -> None:
    """The number of jobs that fit would tell what an error says."""

    async def test() -> None:
        async with Secretive(tmp_path) as server:
            searches = [
                ("GET", "/jobs?", VIEW),
                *(("POST", f"/jobs/{action.value}?dry-run=1&", ADMIN) for action in Action),
            ]
            for method, target, scope in searches:
                body = b"" if method == "POST" else None
                for column, query, code in ((scope, "task=speak", 200), (scope, "error=x", 403), ("", "error=x", 200)):
                    async with server.client(column) as client:
                        assert (await client.ask(method, target + query, body=body))[0] == code, (target, column)

    run(test(), loop=uvloop.new_event_loop)


def test_events_have_no_error_text_and_the_public_part_of_ids(tmp_path: Path) -> None:
    async def test() -> None:
        async with Secretive(tmp_path) as server:
            texts = {}
            for column in (VIEW, READ):
                async with server.client(column) as client, server.client("") as boss:
                    reader, writer = await client.opened()
                    writer.write(request("GET", "/events?state=failed", *client.lines))
                    await reader.readuntil(b"\r\n\r\n")
                    await boss.ask("POST", "/jobs", JSON, "Prefer: wait=5", body=FAILS)
                    event = await reader.readuntil(b'"reason":"error"')
                    texts[column] = event.decode()
            assert {secret for text in texts.values() for secret in TOLD_TO_READERS if secret in text} == set()
            assert (ID.search(texts[VIEW]), ID.search(texts[READ]) is not None) == (None, True)

    run(test(), loop=uvloop.new_event_loop)
