"""Below a base path: it alone is served, it is in every URL that leaves, and a poll costs what it costs without."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from headway.core.config import Config
from headway.core.config_sources import load
from headway.core.errors import ConfigError

from tests.each import each
from tests.end_to_end.process import Server, environment, launch
from tests.protocol.wire import Answer, request, submission

BASE = "/head-way/v1.0"
JSON = "Content-Type: application/json"
ONE_CLIENT = ("--clients", "1", "--jobs", "1", "--task", "nothing", "--duration", "0.5s")
OWN = ("jobs", "batches", "docs", "openapi.json", "stats", "metrics", "readyz", "healthz")
# A URL of ours, with all of the path before it.
_URL = re.compile(rf"[\w./{{}}-]*/(?:{'|'.join(OWN)})\b[\w./-]*")


@pytest.fixture(scope="module")
def below(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"http__base_path": f"{BASE}/", "jobs__backoff": 0.01, "drain_linger": 0, "retention__jobs": 50}
    with launch(tmp_path_factory.mktemp("below"), settings) as started:
        yield started


def ask(server: Server, method: str, path: str, *lines: str, body: bytes | None = None) -> Answer:
    """Ask, and see that each URL in the answer is below the base path."""
    answer = server.ask(request(method, path, *lines, body=body))
    head, _, content = answer.raw.partition(b"\r\n\r\n")
    urls = [url for part in (head, content) for url in _URL.findall(part.decode("latin-1"))]
    assert [url for url in urls if not url.startswith(BASE)] == []
    return answer


def submit(server: Server, task: str, payload: object, *lines: str) -> Answer:
    return ask(server, "POST", f"{BASE}/jobs", JSON, *lines, body=submission(task, payload))


def test_every_url_that_leaves_is_below_it(below: Server) -> None:
    done = submit(below, "give", 1)["location"]
    assert done.startswith(f"{BASE}/jobs/")
    below.wait_for(done, "succeeded")
    assert ask(below, "GET", done).json["result"] == f"{done}/result"
    assert ask(below, "GET", f"{done}/result").json == 1
    failed = submit(below, "fail", None, "Prefer: wait=10")["content-location"]
    assert ask(below, "HEAD", failed).status == 424
    again = ask(below, "POST", f"{failed}/retry", body=b"")
    assert again["link"] == f'<{failed}>; rel="prev"'
    assert again["location"].startswith(f"{BASE}/jobs/")
    by_key = ask(below, "PUT", f"{BASE}/jobs/my-key", JSON, body=submission("give", 1))
    assert ask(below, "GET", f"{BASE}/jobs/my-key")["content-location"] == by_key["location"]
    key = ("Idempotency-Key: other", "Prefer: wait=10")
    first = submit(below, "give", 1, *key)
    assert first["content-location"] == submit(below, "give", 1, *key)["location"]
    batch = ask(below, "POST", f"{BASE}/batches", JSON, body=json.dumps([{"task": "nothing"}] * 2).encode())
    assert batch["location"].startswith(f"{BASE}/batches/")
    assert ask(below, "GET", batch["location"], "Prefer: wait=10").json["succeeded"] == 2
    waited = ask(below, "POST", f"{BASE}/batches", JSON, "Prefer: wait=10", body=b'[{"task":"nothing"}]')
    assert waited["content-location"].startswith(f"{BASE}/batches/")
    page = ask(below, "GET", f"{BASE}/jobs?state=succeeded&limit=1")
    assert page["link"] == f'<{page.json["next"]}>; rel="next"'
    assert ask(below, "GET", page.json["next"]).status == 200
    content = ask(below, "POST", f"{BASE}/tasks/give/jobs", JSON, body=b"[1]")
    assert content["location"].startswith(f"{BASE}/jobs/")
    assert ask(below, "GET", f"{content['location']}/result", "Prefer: wait=10").json == [1]
    assert ask(below, "DELETE", done).status == 204


def test_the_limit_of_a_task_holds_below_it(below: Server) -> None:
    """Found by the path, before the content has come."""
    for base, limit in ((BASE, "body_bytes of the task"), ("", "limits.body_bytes")):
        sent = request("POST", f"{base}/tasks/content/jobs", JSON, "Content-Length: 1000000000")
        answer = below.ask(sent)
        assert answer.status == 413
        assert limit in answer.json["detail"]


def test_what_is_said_of_the_routes_is_below_it(below: Server) -> None:
    routes = ask(below, "GET", f"{BASE}/").json["routes"]
    assert {"GET", "HEAD", "OPTIONS", "PATCH", "PUT", "DELETE"} == set(routes[f"{BASE}/jobs/{{id}}"])
    assert all(path.startswith(f"{BASE}/") for path in routes)
    described = below.get(f"{BASE}/openapi.json").json
    assert [server["url"] for server in described["servers"]] == [BASE]
    assert "/jobs/{id}" in described["paths"]
    # The dashboard's links are relative to this.
    assert f'<base href="{BASE}/" />' in below.get(f"{BASE}/", "Accept: text/html").body.decode()
    for path in ("/docs",):
        page = below.get(f"{BASE}{path}", "Accept: text/html").body.decode()
        links = re.findall(r'href="([^"#]+)"', page)
        assert links
        assert [link for link in links if not link.startswith(f"{BASE}/")] == []
        assert f"{BASE}/jobs" in page


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/stats", "/metrics", "/docs", "/openapi.json", "/", ""])
def test_nothing_else_is_served(below: Server, path: str) -> None:
    assert below.get(BASE + path).status == 200
    assert below.get(f"http://test{BASE}{path}").status == 200
    answer = below.get(path or "/head-way")
    assert answer.status == 404
    assert answer.json["detail"] == f"all routes are below {BASE}/, which is http.base_path in config.yaml"


@pytest.mark.parametrize(
    "path", ["x/head-way/v1.0/healthz", "head-way/v1.0healthz", "head-way/v1.00/healthz", "head-way"]
)
def test_what_only_looks_like_it_is_not_served(below: Server, path: str) -> None:
    assert below.get(f"/{path}").status == 404


def test_a_job_is_not_served_without_it(below: Server) -> None:
    location = submit(below, "nothing", None)["location"]
    below.wait_for(location, "succeeded")
    bare = location.removeprefix(BASE)
    with below.wire() as wire:
        # Also after heads with the path are known.
        for _ in range(3):
            assert wire.ask(request("HEAD", location)).status == 200
            assert wire.ask(request("HEAD", bare)).status == 404
            assert wire.ask(request("HEAD", "/x" * 7 + bare)).status == 404
    assert below.ask(request("POST", "/jobs", JSON, body=submission("nothing"))).status == 404


def test_polls_are_answered_from_the_rows_as_without_it(below: Server) -> None:
    """The loop that needs no parser counts what it answers, and says the same as the road with one."""
    location = submit(below, "give", 1)["location"]
    below.wait_for(location, "succeeded")
    slow = below.ask(request("HEAD", location, "Prefer: x"))
    with below.wire() as wire:
        quick = [wire.ask(request("HEAD", location)) for _ in range(3)]
    assert {answer.status for answer in quick} == {200}
    assert [answer.headers | {"date": ""} for answer in quick] == [slow.headers | {"date": ""}] * 3


def test_the_log_has_it(below: Server) -> None:
    assert any(f"serving http://127.0.0.1:{below.port}{BASE} with" in line for line in below.said)


@pytest.mark.parametrize("named", [False, True], ids=["settings", "HEADWAY_URL"])
def test_the_simulator_finds_the_server_of_its_settings(below: Server, tmp_path: Path, named: bool) -> None:
    if not named:
        (tmp_path / "config.yaml").write_text(f"{{http: {{base_path: {BASE}}}, server: {{port: {below.port}}}}}")
    variables = {"HEADWAY_URL": f"127.0.0.1:{below.port}{BASE}"} if named else {}
    before = below.get(f"{BASE}/stats").json["jobs"]["succeeded"]
    ran = subprocess.run(
        [sys.executable, "-m", "headway", "simulate", *ONE_CLIENT],
        cwd=tmp_path,
        env=environment({}) | variables,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert below.get(f"{BASE}/stats").json["jobs"]["succeeded"] > before


@pytest.mark.parametrize(
    ("path", "base"), [("/", ""), ("/a", "/a"), ("/a/", "/a"), ("/a.b/c~d/_-", "/a.b/c~d/_-"), ("/...", "/...")]
)
def test_a_base_path(path: str, base: str) -> None:
    assert msgspec.convert({"http": {"base_path": path}}, Config).http.base == base


@each(
    "path",
    ["", "a", "a/", "//", "/a//b", "/a b", "/%41", "/ä", "/a?b", "/a#b", "/..", "/a/./b", "/a/..", "/a\n", "/{id}"],
)
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=r"http\.base_path: .* a path such as / or /headway$"):
        load(None, {"HEADWAY_HTTP__BASE_PATH": json.dumps(path)})
