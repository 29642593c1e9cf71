"""Crowds on a real server: every job is created, polled and counted."""

import json
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import Start
from tests.end_to_end.process import Server
from tests.sim.scripted import Simulate

pytestmark = pytest.mark.long

SIMULATE = "from headway.sim.command import command; command(lambda _: {'clients': 7})()"


@pytest.mark.parametrize(
    "given",
    [
        {"poll": "30ms"},
        # Before any job has ended, clients are told to come in a second.
        {"poll": "when-told", "duration": "1500ms"},
        {"poll": "30ms", "connections": 3},
        {"poll": "30ms", "connections": 1000},
    ],
    ids=str,
)
def test_the_crowd_counts_what_the_server_counts(simulate: Simulate, start: Start, given: dict[str, object]) -> None:
    server = start(workers=1000, queue__size=1000)
    sleeps = {"task": "sleep", "payload": None, "job_seconds": "0.05-0.2"}
    ran = simulate(server.port, **{"clients": 20, "jobs": 3, "duration": "700ms", "spread": "100ms"} | sleeps | given)
    assert (ran.code, ran.err) == (0, [])
    results, jobs = ran.json, server.stats()["jobs"]
    assert set(results["jobs"]["ended"]) == {"succeeded"}
    assert results["jobs"]["ended"]["succeeded"] + results["jobs"]["unfinished"] == results["jobs"]["created"]
    assert results["jobs"]["created"] >= 60
    assert sum(jobs.values()) >= results["jobs"]["created"]
    assert results["requests"]["connects"] == min(int(str(given.get("connections", 20))), 20)
    assert results["latency_ms"]["poll"]["count"] == results["requests"]["polls"]
    assert 1 <= results["jobs"]["polls_per_job"] < 10
    assert results["settings"]["clients"] == 20


def test_failed_jobs_are_no_errors(simulate: Simulate, server: Server) -> None:
    ran = simulate(server.port, task="fail", clients=5)
    assert ran.code == 0
    assert set(ran.json["jobs"]["ended"]) == {"failed"}
    assert f"failed: {ran.json['jobs']['ended']['failed']}" in ran.out


def test_a_full_queue_pushes_back(simulate: Simulate, start: Start) -> None:
    server = start(workers=1, queue__size=1)
    ran = simulate(server.port, clients=8, jobs=2, duration="700ms", task="sleep", payload='{"seconds": 0.2}')
    assert ran.code == 0
    assert ran.json["pushed_back"]["429"] > 0
    assert ran.json["errors"] == {}


def test_results_that_cannot_be_written_are_told_at_once() -> None:
    process = subprocess.run(
        [sys.executable, "-c", SIMULATE, "--json", "/no/such/place.json"], capture_output=True, text=True, check=False
    )
    assert process.returncode == 2
    assert process.stderr == (
        "headway simulate: json: '/no/such/place.json' cannot be written: No such file or directory\n"
    )


def test_ctrl_c_ends_with_the_summary(server: Server) -> None:
    """Options of the command line win over those it was given, and duration 0 has no end."""
    options = ["--url", f"http://127.0.0.1:{server.port}", "--duration", "0", "--poll", "20ms", "--task", "nothing"]
    with subprocess.Popen([sys.executable, "-c", SIMULATE, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        first = process.stdout.readline()
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait() == 0
    assert " clients  " in first
    assert "7 clients, 3 jobs each, poll 20ms" in rest
    assert "(interrupted)" in rest
    assert time.monotonic() - began < 3


def test_json_goes_with_its_settings(simulate: Simulate, server: Server) -> None:
    ran = simulate(server.port, task="echo", payload='{"a": 1}')
    assert json.loads(ran.json["settings"]["payload"]) == {"a": 1}
    assert {"began", "seconds", "problem", "versions", "machine", "simulator"} <= set(ran.json)
