"""Secrets of clients and of the settings: none is in a log, a metric or a document for somebody else.

Each secret is sent by all roads, to a server that logs all it can. Then all that it has said is
searched. A client that is refused may read its own values in the answer: that is not searched.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.end_to_end.process import AS_SHIPPED, OVER, Server, launch
from tests.protocol.wire import Answer, post, request, submission
from tests.valkey_servers import serving

TASKS = ["tests.end_to_end.tasks_with_secrets"]
# Recognisable in any case, cut, and as a number.
PAYLOAD, TOKEN, KEY, QUERY, PASSWORD = "hush-payload", "hush-token", "hush-key", "hush-query", "hush-password"
NUMBER = 4929_5712_8811
ENDINGS = {
    "echo": "succeeded",
    "echo_in_thread": "succeeded",
    "echo_in_process": "succeeded",
    "fail": "failed",
    "no_result": "failed",
    "long_result": "failed",
    "die": "failed",
    "take_long": "failed",
}
JSON = "Content-Type: application/json"
AUTHORIZATION = f"Authorization: Bearer {TOKEN}"
keys = itertools.count()


def key() -> str:
    return f"Idempotency-Key: {KEY}-{next(keys)}"


def all_roads(server: Server) -> Iterator[Answer]:
    """Send the secrets by all roads. Yield the answers that tell somebody else of them."""
    payload = {PAYLOAD: [PAYLOAD, NUMBER]}
    paths = []
    for task in ENDINGS:
        answer = server.ask(post(submission(task, payload, tags=["plain"]), AUTHORIZATION, key()))
        assert answer.status == 202, answer
        paths.append(answer["location"])
    content = request("POST", f"/tasks/content/jobs?priority={QUERY}", AUTHORIZATION, key(), body=PAYLOAD.encode())
    assert server.ask(content).status == 422
    content = request("POST", "/tasks/content/jobs", AUTHORIZATION, key(), body=PAYLOAD.encode())
    assert server.ask(content).status == 202
    for ending, path in zip(ENDINGS.values(), paths, strict=True):
        assert server.wait_for(path, *OVER)["job-state"] == ending
    refused_at_once(server)
    # Of others, who know neither the payload nor the key.
    yield server.get("/metrics")
    yield server.get("/stats")
    yield server.get("/tasks")
    yield server.get(f"/jobs?task=nobody&error={QUERY}")
    for path in ("/jobs?limit=1000", *paths):
        yield server.get(path, AUTHORIZATION)
    for path in paths:
        yield server.ask(request("GET", f"{path}?{QUERY}", AUTHORIZATION))
        yield server.delete(path)
        yield server.ask(request("POST", f"{path}/retry", AUTHORIZATION, body=b""))
    yield server.get(f"/nowhere?{QUERY}")
    # The faults of a payload are told in its own document, and nowhere else.
    later = server.ask(post(submission("pay", {"number": f"{PAYLOAD}-later"}), AUTHORIZATION))["location"]
    assert server.wait_for(later, *OVER)["job-reason"] == "invalid-payload"
    assert PAYLOAD in server.get(later).json["detail"]


def refused_at_once(server: Server) -> None:
    """Be refused in each way there is for a client that sends secrets."""
    secret = json.dumps(PAYLOAD)
    one = f"Idempotency-Key: {KEY}-twice"
    assert server.ask(post(submission("echo", PAYLOAD), one)).status == 202
    refused = {
        422: [
            post(submission("echo", PAYLOAD + "2"), one),
            post(submission("nobody", PAYLOAD)),
            post(submission("pay", {"number": PAYLOAD, "kind": PAYLOAD})),
            post(submission("echo", PAYLOAD, priority=PAYLOAD)),
            request("GET", f"/jobs?state={QUERY}"),
        ],
        400: [
            post(f'{{"task": "echo", "payload": {secret}'.encode()),
            b"GET /jobs?%b HTTP/9.9\r\nHost: test\r\n\r\n" % QUERY.encode(),
            request("GET", "/jobs", "Authorization : x", AUTHORIZATION),
        ],
        413: [request("POST", f"/jobs?{QUERY}", JSON, body=secret.encode() * 100_000)],
        415: [request("POST", f"/jobs?{QUERY}", "Content-Type: text/plain", body=secret.encode())],
        404: [request("POST", f"/nowhere?{QUERY}", JSON, AUTHORIZATION, body=secret.encode())],
        405: [request("PATCH", f"/jobs?{QUERY}", JSON, AUTHORIZATION, body=secret.encode())],
    }
    for status, requests in refused.items():
        for data in requests:
            assert server.ask(data).status in {status, 501, 505}, (status, data[:200])


def secrets(text: str, *also: str) -> list[str]:
    """Return the secrets in a text, as they are or encoded."""
    wanted = ("hush", str(NUMBER), quote(TOKEN, safe=""), *also)
    return [line for line in text.splitlines() if any(secret in line for secret in wanted)]


@pytest.mark.parametrize(
    ("engine", "log_format"),
    [
        ("memory", "json"),
        pytest.param("journal", "json", marks=pytest.mark.long),
        ("valkey", "plain"),
    ],
)
def test_no_secret_is_in_a_log_a_metric_or_an_answer_to_others(tmp_path: Path, engine: str, log_format: str) -> None:
    common: dict[str, object] = {
        "tasks": TASKS,
        "log__level": "debug",
        "log__access": True,
        "log__format": log_format,
        "results__max_result_bytes": 100_000,
        "processes": 1,
        "jobs__backoff": 0.01,
    }
    with serving(tmp_path / "store", requirepass=PASSWORD) as store:
        of_engine: dict[str, dict[str, object]] = {
            "memory": {},
            "journal": {"journal__path": str(tmp_path / "journal.db")},
            "valkey": {"engine": store.url, "journal__path": AS_SHIPPED},
        }
        with launch(tmp_path, common | of_engine[engine]) as server:
            answers = list(all_roads(server))
            assert len(server.said) > len(ENDINGS)
            server.deploy()
        for answer in answers:
            assert secrets(answer.raw.decode()) == []
    assert secrets("\n".join(server.said + server.stderr)) == []


def test_a_password_on_the_command_line_is_not_logged(tmp_path: Path) -> None:
    with serving(tmp_path / "store", requirepass=PASSWORD) as store:
        settings = {"server__port": 0, "journal__path": AS_SHIPPED, "log__level": "debug"}
        server = Server(tmp_path, settings, "--engine", store.url)
        try:
            server.wait_until_serving()
            server.deploy()
            assert "***@" in server.wait_for_line("executing the new program")
        finally:
            server.kill()
    assert secrets("\n".join(server.said + server.stderr)) == []
