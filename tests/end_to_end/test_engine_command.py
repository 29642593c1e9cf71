"""``headway engine``: what people see of the store that nodes share."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from click.testing import Result
from headway.core import moved
from headway.core.ids import Ids
from headway.core.job import State, Terms
from headway.core.moved import MovedBatch, MovedJob, MovedQueue

from tests.end_to_end.command import run
from tests.end_to_end.process import environment
from tests.valkey_servers import StoreServer, serving

# Stores, and journals that are carried over, take their time.
pytestmark = pytest.mark.long

TERMS = Terms(timeout_s=60, retries=0, deadline_s=5000, tags=("blue",))
NOW = 1_900_000_000.0


def engine(folder: Path, url: str, *arguments: object, code: int = 0) -> Result:
    return run(folder, "engine", *arguments, "--engine", url, code=code)


def jobs() -> Iterator[MovedJob]:
    """Jobs that wait and that ran, two of a batch among them."""
    for sequence, state in ((8, State.QUEUED), (9, State.QUEUED), (10, State.SCHEDULED), (11, State.RUNNING)):
        yield MovedJob(
            sequence=sequence,
            state=state,
            task="give",
            priority=5,
            terms=TERMS,
            submitted=NOW,
            due=NOW + 1000,
            payload=b"[1,\n2]",
            batch=(8, 2) if sequence < 10 else None,
            attempt=int(state is State.RUNNING),
        )


@pytest.fixture
def client(tmp_path: Path, store: StoreServer, store_url: str) -> Iterator[redis.Redis]:
    """A store with four jobs, that no node uses."""
    with (tmp_path / "all").open("wb") as out:
        moved.write(
            [MovedQueue(secret=b"s" * 32, high=11), MovedBatch(first=8, count=2, failed=0, cancelled=0), *jobs()], out
        )
    assert "4 jobs, 0 keys" in engine(tmp_path, store_url, "import", "all").stdout
    with store.client(int(store_url.rpartition("/")[2])) as client:
        yield client


def test_the_counts_are_shown(tmp_path: Path, client: redis.Redis, store_url: str) -> None:
    shown = json.loads(engine(tmp_path, store_url, "stats").stdout)
    assert shown["unfinished"] == {"scheduled": 1, "queued": 3, "running": 0, "retrying": 0}
    assert shown["tasks"]["give"]["unfinished"] == 4
    assert shown["payload_bytes"] == 4 * len(b"[1,\n2]")
    assert shown["durability"] == {
        "promise": "process",
        "appendonly": "no",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
    }
    assert shown["memory_bytes"] > 100_000
    assert shown["nodes"] == {}


def test_each_job_is_a_line(tmp_path: Path, client: redis.Redis, store_url: str) -> None:
    lines = [json.loads(line) for line in engine(tmp_path, store_url, "export").stdout.splitlines()]
    assert [line["state"] for line in lines] == ["queued", "queued", "scheduled", "queued"]
    assert [line["payload"] for line in lines] == [[1, 2]] * 4
    ids = Ids(b"s" * 32)
    assert [line["id"][:8] for line in lines] == [ids.marker.decode()] * 4


FAULTS: dict[str, tuple[Callable[[redis.Redis], object], str]] = {
    "lost": (lambda store: store.lrem("hw:{0}:q:5:give", 1, "9"), "job 9: is queued and in no place"),
    "twice": (lambda store: store.rpush("hw:{0}:q:5:give", "9"), "job 9: is queued and in a line and a line"),
    "not delayed": (lambda store: store.zrem("hw:{0}:d", "10"), "job 10: is scheduled and in no place"),
    "unguarded": (lambda store: store.zrem("hw:{0}:x", "10"), "job 10: has a deadline that nothing looks at"),
    "a count": (lambda store: store.hincrby("hw:{0}:c", "waiting", 3), "partition 0: the count waiting is +3 off"),
    "a ready count": (
        lambda store: store.hincrby("hw:{0}:ready", "5:give", -1),
        "partition 0: the count of ready jobs 5:give is -1 off",
    ),
    "a batch": (lambda store: store.hset("hw:{0}:b:8", "p", "5"), "batch 8: its count of pending jobs is +3 off"),
    "in no hands": (lambda store: store.hset("hw:{0}:j:8", "s", "3"), "job 8: is running and in no place"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_repaired(tmp_path: Path, client: redis.Redis, store_url: str, fault: str) -> None:
    assert engine(tmp_path, store_url, "check").stdout.endswith(": good\n")
    plant, line = FAULTS[fault]
    plant(client)
    found = engine(tmp_path, store_url, "check", code=1).stderr.splitlines()
    assert f"headway: {line}" in found
    assert engine(tmp_path, store_url, "check", "--repair").stdout.endswith(": repaired\n")
    assert engine(tmp_path, store_url, "check").stdout.endswith(": good\n")
    assert client.llen("hw:{0}:q:5:give") == 3


def test_a_fault_that_nothing_tells_the_right_of_stays(tmp_path: Path, client: redis.Redis, store_url: str) -> None:
    client.delete("hw:{0}:p:9")
    assert "headway: job 9: has no payload" in engine(tmp_path, store_url, "check", code=1).stderr
    assert "cannot be repaired" in engine(tmp_path, store_url, "check", "--repair", code=1).stderr


def test_keys_of_another_version_are_found(tmp_path: Path, client: redis.Redis, store_url: str) -> None:
    client.set("hw:{0}:unheard-of", "1")
    assert "key hw:{0}:unheard-of: is of another version" in engine(tmp_path, store_url, "check", code=1).stderr
    client.hset("hw:meta", "version", "99")
    (line,) = engine(tmp_path, store_url, "stats", code=2).stderr.splitlines()
    assert "99" in line


def test_nothing_is_repaired_or_moved_while_a_node_lives(tmp_path: Path, client: redis.Redis, store_url: str) -> None:
    client.sadd("hw:{0}:nodes", "a:1:x")
    client.set("hw:{0}:hb:a:1:x", "1")
    for words in (("check", "--repair"), ("export", "--whole")):
        (line,) = engine(tmp_path, store_url, *words, code=1).stderr.splitlines()
        assert "a:1:x work on it: stop all nodes first" in line


@pytest.mark.long
def test_jobs_in_the_hands_of_a_dead_node_are_a_fault_while_another_lives(
    tmp_path: Path, client: redis.Redis, store_url: str
) -> None:
    client.sadd("hw:{0}:nodes", "a:1:x")
    client.set("hw:{0}:hb:a:1:x", "1")
    client.hset("hw:{0}:run:b:2:y", "8", "1")
    found = engine(tmp_path, store_url, "check", code=1).stderr
    assert "node b:2:y: has no heartbeat, and jobs in its hands" in found


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("valkey://127.0.0.1:1/0", "Connection refused"),
        ("http://127.0.0.1/", "engine: a store begins with"),
    ],
)
def test_a_store_that_cannot_be_asked_is_said_in_one_line(tmp_path: Path, url: str, line: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "headway", "engine", "stats", "--engine", url],
        cwd=tmp_path,
        env=environment({}),
        capture_output=True,
        text=True,
    )
    assert ended.returncode in (1, 2)
    (said,) = ended.stderr.splitlines()
    assert line in said


@pytest.mark.parametrize(
    ("scheme", "database", "said"),
    [
        ("valkey", 99_999_999, "has no database 99999999. See its setting databases"),
        ("rediss", 0, "Timeout connecting to server, as a port without TLS does (valkey://)"),
    ],
)
def test_a_url_that_does_not_fit_the_store_says_how(
    tmp_path: Path, store: StoreServer, scheme: str, database: int, said: str
) -> None:
    (line,) = engine(tmp_path, f"{scheme}://127.0.0.1:{store.port}/{database}", "stats", code=1).stderr.splitlines()
    assert line.endswith(said)


def test_a_replica_names_the_way_to_its_primary(tmp_path: Path, store: StoreServer) -> None:
    with serving(tmp_path / "replica", replicaof=f"127.0.0.1 {store.port}") as replica:
        (line,) = engine(tmp_path, replica.url, "stats", code=1).stderr.splitlines()
    assert line.endswith("is a read-only replica. Name its primary, or use ?sentinel=NAME")


def test_a_store_that_is_no_cluster_is_said_in_one_line(tmp_path: Path, store: StoreServer) -> None:
    url = f"valkey://127.0.0.1:{store.port}/0?cluster=true"
    (line,) = engine(tmp_path, url, "stats", code=1).stderr.splitlines()
    assert line.endswith("is no cluster. Leave cluster=true out")


def test_an_empty_store_has_no_queue(tmp_path: Path, store_url: str) -> None:
    (line,) = engine(tmp_path, store_url, "stats", code=1).stderr.splitlines()
    assert "has no keys of Headway" in line


@pytest.mark.parametrize("command", ["stats", "check"])
def test_a_foreign_key_with_the_name_of_ours_is_said_in_one_line(
    tmp_path: Path, store: StoreServer, store_url: str, command: str
) -> None:
    with store.client(int(store_url.rpartition("/")[2])) as client:
        client.set("hw:meta", "theirs")
    (line,) = engine(tmp_path, store_url, command, code=1).stderr.splitlines()
    assert "hw:meta of" in line
    assert line.endswith("Name another database, or delete the key if nobody needs it")


@pytest.mark.parametrize(
    ("secret", "said"),
    [("", "wants a password: valkey://user:password@"), (":no@", "refuses the user or the password")],
)
def test_a_password_that_is_missing_or_wrong_is_said_as_at_a_start(tmp_path: Path, secret: str, said: str) -> None:
    with serving(tmp_path / "store", requirepass="right") as server:
        url = f"valkey://{secret}127.0.0.1:{server.port}/0"
        line, started = (
            subprocess.run(
                [sys.executable, "-m", "headway", *command, "--engine", url],
                cwd=tmp_path,
                env=environment({}),
                capture_output=True,
                text=True,
            ).stderr.strip()
            for command in (("engine", "stats"), ("serve", "--check", "--port", "0"))
        )
        assert said in line
        assert line == started
