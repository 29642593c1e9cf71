"""From a journal to a store that nodes share, and back: everything says the same before and after."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import FRESH
from tests.end_to_end.command import run
from tests.end_to_end.process import Server, launch, wait_until
from tests.protocol.wire import request, submission
from tests.valkey_servers import HOST, StoreServer

# Stores, and journals that are carried over, take their time.
pytestmark = pytest.mark.long

# Headers that tell of the moment of the answer, and one that has tenths of a ms. A store has ms.
OF_THE_MOMENT = {"date", "retry-after", "job-position", "expires", "etag", "server-timing", "retry-after-ms"}
# Servers read the clock µs apart, so a time may be shown a ms from what another one has shown.
TIMES = {"started", "ended"}
MOMENT = re.compile(rb'"(?:retry_after|retry_after_ms|position|submitted|started|ended)":[^,}]+')
JSON = "Content-Type: application/json"


class Crowd:
    """Jobs of every state, a batch, keys, tags, a log, attempts and a hold, at one server."""

    def __init__(self, server: Server) -> None:
        self.jobs = [
            server.run("give", {"a": [1, 2.5, "ä"]}),
            server.run("give", None),
            server.run("fail", {"message": "why not"}),
            server.submit("give", 1, delay=1000, priority=7, deadline=5000, tags=["blue"]),
            server.submit("fail", {"message": "again"}, retries=1, keep=5000, tags=["blue", "red"]),
            server.run("log_lines", {"count": 3, "pause": 0}),
        ]
        server.wait_for(self.jobs[4], "failed")
        cancelled = server.submit("give", 2, delay=1000)
        server.delete(cancelled)
        forgotten = server.run("give", 3)
        server.delete(forgotten)
        self.jobs += [cancelled, forgotten, server.run("give", 4, tags=["blue"])]
        keyed = server.ask(request("POST", "/jobs", JSON, "Idempotency-Key: k.1", body=submission("give", 5)))
        self.jobs.append(keyed["location"])
        body = b"[%b,%b,%b]" % (submission("give", 6), submission("fail", {}), submission("give", 7, delay=1000))
        batch = server.ask(request("POST", "/batches", JSON, "Idempotency-Key: k.2", body=body))
        self.batch = batch["location"]
        wait_until(lambda: server.get(self.batch).json["pending"], lambda pending: pending == 1)
        assert server.ask(request("PATCH", "/tasks/sleep", JSON, body=b'{"dispatch": "hold"}')).status == 200
        self.jobs.append(server.submit("sleep", {"seconds": 0}))

    def seen(self, server: Server) -> dict[str, Any]:
        """All that a client can read of them."""
        seen: dict[str, Any] = {}
        for job in self.jobs:
            head = server.head(job)
            seen[job] = head.status, {name: value for name, value in head.headers.items() if name not in OF_THE_MOMENT}
            attempts = server.get(f"{job}?attempts").json.get("attempts", [])
            seen[f"{job} attempts"] = [{name: one[name] for name in one.keys() - TIMES} for one in attempts]
            for part in ("result", "log"):
                answer = server.get(f"{job}/{part}")
                seen[f"{job}/{part}"] = answer.status, MOMENT.sub(b"", answer.body)
        seen["batch"] = server.get(self.batch).json
        seen["tags"] = [job["id"] for job in server.get("/jobs?tag=blue").json["jobs"]]
        seen["list"] = [(job["id"], job["state"]) for job in server.get("/jobs?limit=100").json["jobs"]]
        seen["hold"] = server.get("/tasks/sleep").json["dispatch"]
        for key, body in (("k.1", submission("give", 5)), ("k.1", submission("give", 6))):
            answer = server.ask(request("POST", "/jobs", JSON, f"Idempotency-Key: {key}", body=body))
            seen[f"{key} {body!r}"] = answer.status, answer.headers.get("location")
        seen["k.2"] = server.head("/jobs/k.2").status
        return seen


@pytest.fixture
def other_url(store: StoreServer) -> str:
    """The URL of another empty database."""
    return f"valkey://{HOST}:{store.port}/{next(FRESH)}"


@pytest.fixture
def crowd(tmp_path: Path) -> tuple[Crowd, dict[str, Any]]:
    """A crowd whose server has ended, with the journal ``j.db``."""
    with launch(tmp_path, {"journal__path": str(tmp_path / "j.db")}) as server:
        crowd = Crowd(server)
        return crowd, crowd.seen(server)


def test_a_journal_that_went_through_a_store_says_the_same(
    tmp_path: Path, crowd: tuple[Crowd, dict[str, Any]], store_url: str
) -> None:
    jobs, before = crowd
    assert "14 jobs, 2 keys" in run(tmp_path, "engine", "import", "--engine", store_url, "j.db").stdout
    assert run(tmp_path, "engine", "check", "--engine", store_url).stdout.endswith(": good\n")
    run(tmp_path, "engine", "export", "--engine", store_url, "--whole", "--out", "all.jsonl")
    assert (tmp_path / "all.jsonl").stat().st_mode & 0o777 == 0o600
    assert run(tmp_path, "journal", "import", "all.jsonl", "new.db").stdout == "new.db: 14 jobs\n"
    assert run(tmp_path, "journal", "check", "new.db").stdout.endswith(": good\n")
    with launch(tmp_path, {"journal__path": str(tmp_path / "new.db")}) as server:
        assert jobs.seen(server) == before


def test_a_node_on_a_store_says_the_same_as_the_server_of_the_journal(
    tmp_path: Path, crowd: tuple[Crowd, dict[str, Any]], store_url: str
) -> None:
    jobs, before = crowd
    run(tmp_path, "engine", "import", "--engine", store_url, "j.db")
    with launch(tmp_path, {"engine": store_url}) as server:
        assert jobs.seen(server) == before
        new = server.run("give", 8)
        assert new not in jobs.jobs
        assert server.head(f"/jobs/{jobs.jobs[0][6:14]}{1:012x}{0:016x}").status == 421
    # And back, with the job that came since.
    run(tmp_path, "engine", "export", "--engine", store_url, "--whole", "--out", "all.jsonl")
    run(tmp_path, "journal", "import", "all.jsonl", "new.db")
    with launch(tmp_path, {"journal__path": str(tmp_path / "new.db")}) as server:
        assert server.get(f"{new}/result").json == 8
        server.delete(new)
        after = jobs.seen(server)
        assert {name: said for name, said in after.items() if name != "list"} == {
            name: said for name, said in before.items() if name != "list"
        }


def test_an_export_of_a_store_is_as_that_of_its_journal(
    tmp_path: Path, crowd: tuple[Crowd, dict[str, Any]], store_url: str
) -> None:
    run(tmp_path, "engine", "import", "--engine", store_url, "j.db")
    ours, theirs = (
        {line["id"]: line for line in map(json.loads, run(tmp_path, *words).stdout.splitlines())}
        for words in (("engine", "export", "--engine", store_url), ("journal", "export", "j.db"))
    )
    assert ours.keys() == theirs.keys()
    for job_id, line in ours.items():
        for name in ("sequence", "state", "reason", "attempt", "priority", "task", "payload", "result"):
            assert line.get(name) == theirs[job_id].get(name), name


def test_an_import_needs_an_empty_store(tmp_path: Path, crowd: tuple[Crowd, dict[str, Any]], store_url: str) -> None:
    run(tmp_path, "engine", "import", "--engine", store_url, "j.db")
    (line,) = run(tmp_path, "engine", "import", "--engine", store_url, "j.db", code=1).stderr.splitlines()
    assert "is not empty" in line


def test_a_journal_moves_to_one_partition_alone(
    tmp_path: Path, crowd: tuple[Crowd, dict[str, Any]], store_url: str
) -> None:
    url = f"{store_url}?partitions=16"
    (line,) = run(tmp_path, "engine", "import", "--engine", url, "j.db", code=1).stderr.splitlines()
    assert "their ids would not be valid" in line


def test_partitions_move_to_as_many(tmp_path: Path, store_url: str, other_url: str) -> None:
    one, other = f"{store_url}?partitions=16", f"{other_url}?partitions=16"
    with launch(tmp_path, {"engine": one}) as server:
        jobs = [server.run("give", number, tags=["blue"]) for number in range(20)]
        jobs.append(server.submit("give", 20, delay=1000))
        body = b"[%b,%b]" % (submission("give", 6), submission("give", 7, delay=1000))
        batch = server.ask(request("POST", "/batches", JSON, body=body))["location"]
        wait_until(lambda: server.get(batch).json["pending"], lambda pending: pending == 1)
        before = [server.head(job)["job-state"] for job in jobs], server.get(batch).json
    run(tmp_path, "engine", "export", "--engine", one, "--whole", "--out", "all.jsonl")
    run(tmp_path, "engine", "import", "--engine", other, "all.jsonl")
    assert run(tmp_path, "engine", "check", "--engine", other).stdout.endswith(": good\n")
    with launch(tmp_path, {"engine": other}) as server:
        assert ([server.head(job)["job-state"] for job in jobs], server.get(batch).json) == before
        assert [server.get(f"{job}/result").json for job in jobs[:20]] == [*range(20)]
        assert server.run("give", 21) not in jobs
    (line,) = run(tmp_path, "journal", "import", "all.jsonl", "new.db", code=1).stderr.splitlines()
    assert "16 partitions" in line


@pytest.mark.parametrize("partitions", [0, 1, 4], ids=["journal", "store", "partitions"])
def test_an_order_goes_on_with_the_next_job(tmp_path: Path, store_url: str, other_url: str, partitions: int) -> None:
    one, other = (f"{url}?partitions={partitions or 1}" for url in (store_url, other_url))
    hold = request("PATCH", "/tasks/fail", JSON, body=b'{"dispatch": "hold"}')
    with launch(tmp_path, {"engine": one, "queue__size": 4}) as server:
        for _ in range(30):
            server.run("fail", {})
        assert server.ask(hold).status == 200
        # There is no room for all.
        order = server.ask(request("POST", "/jobs/retry?task=fail", "Content-Length: 0"))["location"]
        wait_until(lambda: len(server.get("/jobs?state=queued&task=fail").json["jobs"]), lambda queued: queued >= 4)
    run(tmp_path, "engine", "export", "--engine", one, "--whole", "--out", "all.jsonl")
    if partitions:
        run(tmp_path, "engine", "import", "--engine", other, "all.jsonl")
        own = {"engine": other}
    else:
        run(tmp_path, "journal", "import", "all.jsonl", "new.db")
        own = {"journal__path": str(tmp_path / "new.db")}
    with launch(tmp_path, own) as server:
        server.wait_for(order, "succeeded")
        assert server.get(f"{order}/result").json == {"matched": 30, "done": 30, "skipped": 0}
        assert len(server.get("/jobs?state=queued&task=fail&limit=100").json["jobs"]) == 30


def test_a_journal_in_use_is_not_moved(tmp_path: Path, store_url: str) -> None:
    with launch(tmp_path, {"journal__path": str(tmp_path / "j.db")}):
        (line,) = run(tmp_path, "engine", "import", "--engine", store_url, "j.db", code=1).stderr.splitlines()
    assert "another process has this journal open" in line


@pytest.mark.parametrize(
    "lines", [b"", b"no lines\n", b'{"line":"key","text":"a","sequence":1,"digest":"","submitted":1}\n']
)
def test_a_file_that_is_no_export_is_said_in_one_line(tmp_path: Path, store_url: str, lines: bytes) -> None:
    (tmp_path / "file").write_bytes(lines)
    (line,) = run(tmp_path, "engine", "import", "--engine", store_url, "file", code=1).stderr.splitlines()
    assert line.startswith("headway: file: ")
    (line,) = run(tmp_path, "journal", "import", "file", "new.db", code=1).stderr.splitlines()
    assert line.startswith("headway: file: ")


def test_a_refused_export_leaves_no_file(tmp_path: Path, store_url: str) -> None:
    export = ("engine", "export", "--engine", store_url, "--whole", "--out", "all.jsonl")
    with launch(tmp_path, {"engine": store_url}):
        (line,) = run(tmp_path, *export, code=1).stderr.splitlines()
        assert "stop all nodes first" in line
    run(tmp_path, *export)


@pytest.mark.parametrize("missing", [1, 2, 9])
def test_a_part_of_an_export_is_refused(
    tmp_path: Path, crowd: tuple[Crowd, dict[str, Any]], store_url: str, other_url: str, missing: int
) -> None:
    """A copy that ends at the end of a line, as on a full disk, would lose jobs without a word."""
    run(tmp_path, "engine", "import", "--engine", store_url, "j.db")
    run(tmp_path, "engine", "export", "--engine", store_url, "--whole", "--out", "all.jsonl")
    lines = (tmp_path / "all.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "part.jsonl").write_bytes(b"".join(lines[:-missing]))
    for words in (
        ("engine", "import", "--engine", other_url, "part.jsonl"),
        ("journal", "import", "part.jsonl", "new.db"),
    ):
        (line,) = run(tmp_path, *words, code=1).stderr.splitlines()
        assert "has not all lines of its export" in line
    # Nothing of it stays.
    assert "14 jobs, 2 keys" in run(tmp_path, "engine", "import", "--engine", other_url, "all.jsonl").stdout
    assert run(tmp_path, "journal", "import", "all.jsonl", "new.db").stdout == "new.db: 14 jobs\n"
