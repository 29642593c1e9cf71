"""What is allowed, and how what is not is told."""

import json
import subprocess
import sys

import pytest
from headway.sim.requests import Requests
from headway.sim.settings import CrowdSettings, SettingsError, Target, read, seconds

LOW_LIMIT = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
from headway.sim import files
from headway.sim.settings import SettingsError
try:
    files.allow({connections})
except SettingsError as error:
    print(error)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(("text", "value"), [("60s", 60), ("250ms", 0.25), ("2m", 120), ("1.5h", 5400), ("7", 7)])
def test_times(text: str, value: float) -> None:
    assert seconds("duration", text) == value


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"clients": 0}, "clients: 0 is not allowed: expected 1 to 1000000 clients"),
        ({"jobs": 1001}, "jobs: 1001"),
        ({"duration": "soon"}, "duration: 'soon' is not allowed: expected a time such as 250ms, 60s or 2m"),
        ({"duration": "-1s"}, "duration: '-1s'"),
        ({"timeout": "0s"}, "timeout: 0 "),
        ({"connections": -1}, "connections: -1"),
        ({"task": ""}, "task: ''"),
        ({"payload": "{seconds: 1}"}, "payload: '{seconds: 1}' is not JSON"),
        ({"job_seconds": "5-1"}, "job_seconds: '5-1'"),
        ({"job_seconds": "x"}, "job_seconds: 'x'"),
        (
            {"url": "ftp://localhost"},
            "url: 'ftp://localhost' is not allowed: expected http://host:port or https://host",
        ),
        ({"url": "localhost:8080"}, "url: "),
        ({"url": "http://localhost:99999"}, "url: "),
        ({"url": "http://localhost/ä"}, "url: "),
        ({"url": "http://[::1"}, "url: "),
        ({"colour": 1}, "colour: unknown; allowed here: clients, "),
    ],
)
def test_what_is_not_allowed_is_named_in_one_line(given: dict[str, object], named: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read(given)
    assert str(raised.value).startswith(named)
    assert "\n" not in str(raised.value)


def test_none_stands_for_the_default() -> None:
    assert read({"clients": None, "duration": "2m", "payload": None}) == CrowdSettings(duration=120)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://127.0.0.1:8080", Target(host="127.0.0.1", port=8080, path="")),
        ("http://localhost/", Target(host="localhost", port=80, path="")),
        ("https://localhost/a", Target(host="localhost", port=443, path="/a", scheme="https")),
        ("http://[::1]:81/a/b/", Target(host="::1", port=81, path="/a/b")),
    ],
)
def test_urls(url: str, target: Target) -> None:
    assert CrowdSettings(url=url).target() == target


def test_payloads_are_spread_over_the_seconds() -> None:
    given = [json.loads(payload)["seconds"] for payload in CrowdSettings(job_seconds="1-5").payloads()]
    assert 1 <= min(given) < 1.1
    assert 4.9 < max(given) <= 5
    assert CrowdSettings(job_seconds="2").payloads() == ['{"seconds": 2.0}'] * 256
    assert CrowdSettings(payload="[1]").payloads() == ["[1]"]


def test_requests_are_http() -> None:
    requests = Requests(
        CrowdSettings(url="http://[::1]:81/a", task='"', payload="1"), b"Prefer: wait=1\r\n", batched=False
    )
    head, _, body = requests.submit().partition(b"\r\n\r\n")
    assert head.startswith(b"POST /a/jobs HTTP/1.1\r\nHost: [::1]:81\r\n")
    assert b"\r\nContent-Length: %d" % len(body) in head
    assert json.loads(body) == {"task": '"', "payload": 1}
    poll = requests.poll(b"/jobs/X")
    assert poll.startswith(b"HEAD /jobs/X HTTP/1.1\r\nHost: [::1]:81\r\n")
    assert poll.endswith(b"\r\nPrefer: wait=1\r\n\r\n")
    assert requests.where == "/a/jobs"
    assert requests.poll(b"http://other/jobs/Y").startswith(b"HEAD /jobs/Y HTTP/1.1\r\n")


def test_a_token_is_sent_with_each_request() -> None:
    requests = Requests(CrowdSettings(), b"", batched=False, token="hw_abc")
    assert b"\r\nAuthorization: Bearer hw_abc\r\n" in requests.submit()
    assert b"\r\nAuthorization: Bearer hw_abc\r\n" in requests.poll(b"/jobs/1")
    assert b"Authorization" not in Requests(CrowdSettings(), b"", batched=False).submit()
    for wrong in ("a b", "a\r\nX: y", "\u00e9"):
        with pytest.raises(SettingsError, match="HEADWAY_TOKEN is not allowed") as raised:
            Requests(CrowdSettings(), b"", batched=False, token=wrong)
        assert wrong not in str(raised.value)


def test_a_batch_is_one_request() -> None:
    requests = Requests(CrowdSettings(jobs=3, job_seconds="1-5"), b"", batched=True)
    head, _, body = requests.submit().partition(b"\r\n\r\n")
    assert head.startswith(b"POST /batches HTTP/1.1\r\nHost: ")
    assert b"\r\nContent-Length: %d" % len(body) in head
    jobs = json.loads(body)
    assert [job["task"] for job in jobs] == ["sleep"] * 3
    assert all(1 <= job["payload"]["seconds"] <= 5 for job in jobs)


@pytest.mark.parametrize(
    ("soft", "hard", "said"),
    [
        (100, 500, ["332"]),
        (400, 500, ["400"]),
        (100, 200, ["300 connections need 332 open files, and 200 are allowed: raise the limit", "100"]),
    ],
)
def test_the_soft_file_limit_is_raised_and_a_low_hard_limit_told(soft: int, hard: int, said: list[str]) -> None:
    """In a process of its own, as limits cannot be raised again."""
    script = LOW_LIMIT.format(soft=soft, hard=hard, connections=300)
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    lines = ran.stdout.splitlines()
    assert [line[: len(expected)] for line, expected in zip(lines, said, strict=True)] == said
