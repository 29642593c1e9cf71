"""What operators look at: probes, counts, logs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Start
from tests.end_to_end.process import Gate, Server, launch, wait_until
from tests.protocol.wire import post, request, submission

NOTHING = submission("nothing")


@pytest.fixture
def fresh(start: Start) -> Server:
    """A server that nobody has talked to."""
    return start(workers=2, queue__size=3, jobs__backoff=0.01)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that logs no requests, and that tests share which look at what becomes more."""
    with launch(tmp_path_factory.mktemp("quiet"), {"jobs__backoff": 0.01}) as started:
        yield started


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that logs each request."""
    with launch(tmp_path_factory.mktemp("logged"), {"log__access": True}) as started:
        yield started


@pytest.mark.parametrize(("path", "body"), [("/healthz", b"ok\n"), ("/readyz", b"ready\n")])
def test_probes(server: Server, path: str, body: bytes) -> None:
    answer = server.get(path)
    assert (answer.status, answer.body, answer["cache-control"]) == (200, body, "no-store")


def test_metrics_can_be_parsed(server: Server) -> None:
    answer = server.get("/metrics")
    assert answer["content-type"].startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
    assert all(family.documentation for family in families.values())
    assert families["headway_job_run_seconds"].type == "histogram"
    assert not [name for name in families if name.startswith("headway_journal")], "there is none"
    assert families["headway_jobs"].type == families["headway_http_requests"].type == "counter"


def test_metrics_count_jobs(fresh: Server, gate: Gate) -> None:
    for task, members in (("nothing", {}), ("nothing", {}), ("fail", {}), ("fail", {"retries": 1})):
        fresh.run(task, **members)
    fresh.delete(fresh.submit("nothing", delay=1000))
    for _ in range(2):
        fresh.wait_for(fresh.submit("until_file", gate.path), "running")
    fresh.submit("nothing")
    fresh.submit("nothing", delay=1000)
    found = fresh.metrics()
    ended = {
        task: [found["headway_jobs_total", outcome, task] for outcome in ("succeeded", "failed", "cancelled")]
        for task in ("nothing", "fail", "until_file")
    }
    assert ended == {"nothing": [2, 0, 1], "fail": [0, 2, 0], "until_file": [0, 0, 0]}
    assert [found["headway_jobs_running", task] for task in ("nothing", "until_file")] == [0, 2]
    assert [found["headway_jobs_queued", task] for task in ("nothing", "until_file")] == [1, 0]
    assert [found[f"headway_jobs_{state}",] for state in ("scheduled", "retrying")] == [1, 0]
    assert found["headway_job_retries_total",] == 1
    runs = {task: found["headway_job_run_seconds_count", task] for task in ended}
    assert runs == {task: found["headway_job_run_seconds_bucket", "+Inf", task] for task in ended}
    assert runs == {"nothing": 2, "fail": 3, "until_file": 0}
    assert sum(found["headway_job_wait_seconds_count", task] for task in ended) == 7
    assert 0 < found["headway_oldest_queued_seconds", "nothing"] < 60
    fresh.clear()


def requests_counted(server: Server) -> dict[tuple[str, ...], float]:
    """Count of answers by code and route."""
    return {name[1:]: value for name, value in server.metrics().items() if name[0] == "headway_http_requests_total"}


def test_metrics_count_requests_by_route_and_code(quiet: Server) -> None:
    path = quiet.run("nothing")
    before = requests_counted(quiet)
    with quiet.wire() as wire:
        for target in (path, path, path, "/jobs/0", "/jobs/1"):
            wire.ask(request("HEAD", target))
        for sent in (post(NOTHING), post(b"{"), post(b"{}"), request("GET", "/nowhere?x"), request("BREW", "/")):
            wire.ask(sent)
    after = requests_counted(quiet)
    more = {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}
    heads = [more["200", "HEAD /jobs/{id}"], more["404", "HEAD /jobs/{id}"]]
    posts = [more[code, "POST /jobs"] for code in ("202", "400", "422")]
    assert (heads, posts) == ([3, 2], [1, 1, 1])
    assert sorted(more.values()) == [1, 1, 1, 1, 1, 1, 2, 3]


def test_metrics_count_rejections_by_reason(fresh: Server, gate: Gate) -> None:
    for _ in range(2):
        fresh.wait_for(fresh.submit("until_file", gate.path), "running")
    for _ in range(3):
        fresh.submit("nothing")
    for sent in (post(NOTHING), post(NOTHING), post(b"{"), post(submission("x")), request("PUT", "/jobs", body=b"")):
        fresh.ask(sent)
    counts = {name[1]: value for name, value in fresh.metrics().items() if name[0] == "headway_rejections_total"}
    found = {reason: count for reason, count in counts.items() if count}
    assert sorted(found.values()) == [1, 1, 1, 2]
    assert fresh.stats()["rejections"] == found


def test_unknown_targets_make_no_new_series(quiet: Server) -> None:
    with quiet.wire() as wire:
        for n in range(200):
            wire.ask(request("GET", f"/x{n}"))
            wire.ask(request("GET", f"/jobs/{n}"))
            if n == 1:
                quiet.metrics()
                before = set(quiet.metrics())
    assert set(quiet.metrics()) == before


def test_replaced_worker_is_counted(start: Start, gate: Gate) -> None:
    server = start(workers=1)
    server.expected_errors.append("ignored its cancellation")
    path = server.submit("never_cancelled", timeout=0.05)
    assert server.wait_for(path, "failed")["job-reason"] == "timeout"
    assert server.run("nothing")
    assert server.metrics()["headway_worker_replacements_total",] == 1
    assert server.stats()["workers"] == {"count": 1, "idle": 1, "replacements": 1, "lost_threads": 0}


def test_lost_threads_make_the_server_unready(start: Start, gate: Gate) -> None:
    server = start(limits__lost_threads=1)
    for expected in (200, 503):
        path = server.submit("thread_until_file", gate.path, timeout=0.05)
        server.wait_for(path, "failed")
        assert server.get("/readyz").status == expected
    assert server.stats()["workers"]["lost_threads"] == 2
    gate.open()
    with server.wire() as wire:
        while wire.ask(request("GET", "/readyz")).status == 503:
            assert wire.still_serves()
    wait_until(lambda: server.stats()["workers"]["lost_threads"], lambda lost: lost == 0)


def test_stats(fresh: Server) -> None:
    fresh.run("give", "x")
    said = fresh.stats()
    assert said["jobs"]["succeeded"] == 1
    assert (said["waiting"], said["queue_size"], said["draining"]) == (0, 3, False)
    assert said["results"]["kept"] == 1
    assert said["connections"] == 1
    assert said["board"]["bytes"] > said["board"]["rows"]


def test_start_says_what_the_board_costs(server: Server) -> None:
    assert re.search(r"board: \d+ rows of \d+ bytes.*MiB", server.wait_for_line("board: "))


def test_log_is_json_where_there_is_no_terminal(server: Server) -> None:
    server.wait_for_line("board: ")
    for line in server.said:
        assert json.loads(line).keys() >= {"time", "level", "logger", "message"}


def test_log_can_be_plain(start: Start) -> None:
    server = start(log__format="plain", log__access=True)
    server.get("/healthz")
    assert re.fullmatch(r'\d\d:\d\d:\d\d INFO +127\.0\.0\.1 "GET /healthz" 200 \d+', server.wait_for_line("GET"))


def test_access_is_logged_only_when_asked_for(quiet: Server) -> None:
    quiet.get("/healthz")
    quiet.run("fail", {"message": "logged after these"})
    quiet.wait_for_line("logged after these")
    assert not [line for line in quiet.said if "headway.access" in line]


def test_access_log(logged: Server) -> None:
    path = logged.run("nothing")
    with logged.wire() as wire:
        for _ in range(3):
            wire.ask(request("HEAD", path))
        wire.ask(request("GET", "/nowhere?a=b"))
        wire.send(b"rubbish\r\n\r\n")
        wire.read()
    logged.wait_for_line(r'\\"-[^"]*\\" (400|501)')
    lines = [json.loads(line)["message"] for line in logged.said if '"headway.access"' in line]
    assert sum(f'"HEAD {path}" 200' in line for line in lines) >= 3
    assert any('"POST /jobs" 202' in line for line in lines)
    assert any('"GET /nowhere" 404' in line for line in lines)


@pytest.mark.parametrize("target", ["/\x1b[31m", '/" 200 1', "/\x85x", "/é", "/%0a"])
def test_client_cannot_write_into_the_log(logged: Server, target: str) -> None:
    with logged.wire() as wire:
        wire.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target.encode("latin-1"))
        assert wire.read().status in {400, 404}
    assert logged.get("/after-" + target[1:2].encode().hex()).status == 404
    logged.wait_for_line("after-" + target[1:2].encode().hex())
    messages = [json.loads(line)["message"] for line in logged.said]
    assert all(message.isprintable() for message in messages), messages[-5:]


def test_failed_attempt_is_in_the_log_with_its_traceback(quiet: Server) -> None:
    quiet.run("fail", {"message": "find me"})
    line = json.loads(quiet.wait_for_line("find me"))
    assert "RuntimeError: find me" in line["exception"]
