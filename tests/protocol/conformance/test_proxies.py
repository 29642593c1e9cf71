"""Through nginx with its cache on, and through HAProxy, a client sees the answers that the server gives.

nginx asks by HTTP/1.0 unless told otherwise, and turns each HEAD into a GET to fill its cache.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end.process import Gate, Server, wait_until
from tests.protocol.wire import Answer, Wire, post, request, submission
from tests.test_nginx import FRAME, NGINX, answers

pytestmark = pytest.mark.long

HAPROXY = shutil.which("haproxy") or "/usr/sbin/haproxy"
# ``proxy_cache_valid`` keeps all answers that do not say for how long: none of ours may be among them.
WITH_CACHE = """\
    proxy_cache_path {folder}/cache keys_zone=cache:1m;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{server};
            proxy_set_header Host $http_host;
            {version}
            proxy_cache cache;
            proxy_cache_valid any 10m;
            add_header X-Cache $upstream_cache_status always;
        }}
    }}"""
KEPT_ALIVE = 'proxy_http_version 1.1; proxy_set_header Connection "";'
BALANCED = """\
defaults
    mode http
    timeout connect 20s
    timeout client 60s
    timeout server 60s
listen jobs
    bind 127.0.0.1:{port}
    http-reuse always
    server headway 127.0.0.1:{server}
"""
# Fields that a proxy adds, and those of the moment.
OF_THE_PROXY = {"server", "x-cache", "connection", "date", "retry-after", "retry-after-ms", "cache-control"}


def nginx(folder: Path, port: int, server: Server, version: str = "") -> Sequence[str | Path]:
    proxy = WITH_CACHE.format(folder=folder, port=port, server=server.port, version=version)
    (folder / "nginx.conf").write_text(FRAME.format(folder=folder, example=proxy))
    return [NGINX, "-p", folder, "-c", folder / "nginx.conf"]


def nginx_with_1_1(folder: Path, port: int, server: Server) -> Sequence[str | Path]:
    return nginx(folder, port, server, KEPT_ALIVE)


def haproxy(folder: Path, port: int, server: Server) -> Sequence[str | Path]:
    (folder / "haproxy.cfg").write_text(BALANCED.format(port=port, server=server.port))
    return [HAPROXY, "-db", "-f", folder / "haproxy.cfg"]


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not Path(program).exists(), reason=f"{Path(program).name} is not installed")


@contextmanager
def running(command: Sequence[str | Path], port: int) -> Iterator[None]:
    proxy = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers(port), bool)
        yield
    finally:
        proxy.terminate()
        proxy.wait(20)


@dataclass(frozen=True)
class Proxy:
    """A proxy in front of the server."""

    port: int

    def ask(self, sent: bytes) -> Answer:
        """Ask on a connection of its own."""
        with Wire(self.port) as wire:
            return wire.ask(sent)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(nginx, id="nginx-1.0", marks=needs(NGINX)),
        pytest.param(nginx_with_1_1, id="nginx-1.1", marks=needs(NGINX)),
        pytest.param(haproxy, id="haproxy", marks=needs(HAPROXY)),
    ],
)
def proxy(request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """The server behind a proxy."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = request.param(tmp_path_factory.mktemp("proxy"), port, server)
    with running(command, port):
        yield Proxy(port)


OTHERS = [
    *("/healthz", "/readyz", "/docs", "/openapi.json", "/dashboard/app.js", "/nowhere", "/jobs?limit=0"),
    *("/jobs/none", "/jobs/" + "0" * 36, "/tasks", "/tasks/give"),
]


def alike(proxy: Proxy, server: Server, target: str, *lines: str) -> None:
    """See that GET and HEAD have the answer of the server, at first and when a cache may have it."""
    direct = server.ask(request("GET", target, *lines))
    for method in ("GET", "HEAD", "HEAD", "GET"):
        answer = proxy.ask(request(method, target, *lines))
        assert answer.status == direct.status, (method, target)
        assert answer.body == (b"" if method == "HEAD" else direct.body), (method, target)
        fields = {name: text for name, text in answer.headers.items() if name not in OF_THE_PROXY}
        assert fields.items() <= direct.headers.items(), (method, target)
        assert direct.headers.keys() - OF_THE_PROXY - fields.keys() <= {"content-length"}, (method, target)
        assert answer["cache-control"].partition("=")[0] == direct["cache-control"].partition("=")[0]
        assert answer.headers.get("x-cache", "MISS") == "MISS"


@pytest.mark.parametrize("target", OTHERS)
def test_get_and_head_alike(proxy: Proxy, server: Server, target: str) -> None:
    alike(proxy, server, target)
    alike(proxy, server, target, "Accept-Encoding: gzip")


@pytest.mark.parametrize(("task", "payload"), [("give", {"a": 1}), ("octets", 100_000), ("fail", None)])
def test_get_and_head_of_a_finished_job_alike(proxy: Proxy, server: Server, task: str, payload: object) -> None:
    path = server.run(task, payload)
    for part in ("", "/result", "/payload", "/log"):
        alike(proxy, server, path + part)


def test_a_result_that_the_client_has(proxy: Proxy, server: Server) -> None:
    path = server.run("give", 1) + "/result"
    etag = server.get(path)["etag"]
    for method in ("GET", "HEAD"):
        answer = proxy.ask(request(method, path, f"If-None-Match: {etag}"))
        # A cache asks for the whole answer, to keep it, and nginx passes that on.
        assert (answer.status, answer["etag"]) in ((304, etag), (200, etag))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_change_is_seen_at_once(proxy: Proxy, server: Server, gate: Gate, method: str) -> None:
    accepted = proxy.ask(post(submission("until_file", gate.path)))
    path = accepted["location"]
    server.wait_for(path, "running")
    assert proxy.ask(request(method, path))["job-state"] == "running"
    assert proxy.ask(request(method, path + "/result")).status == 202
    gate.open()
    server.wait_for(path, "succeeded")
    assert proxy.ask(request(method, path))["job-state"] == "succeeded"
    assert proxy.ask(request(method, path + "/result")).status == 200
    assert proxy.ask(request("DELETE", path)).status == 204
    assert proxy.ask(request(method, path + "/result")).status == 410


def test_content_in_all_forms(proxy: Proxy, server: Server) -> None:
    body = submission("give", "x" * 10_000)
    chunks = b"%x;a=b\r\n%b\r\n0\r\nX: y\r\n\r\n" % (len(body), body)
    lines = ("Content-Type: application/json", "Transfer-Encoding: chunked")
    for sent in (post(body), request("POST", "/jobs", *lines) + chunks, post(body, version="1.0")):
        answer = proxy.ask(sent)
        assert answer.status == 202
        server.wait_for(answer["location"], "succeeded")
        assert proxy.ask(request("GET", answer["location"] + "/result")).json == "x" * 10_000


def test_content_that_waits_for_a_100(proxy: Proxy) -> None:
    body = submission("nothing")
    head, _, _ = post(body, "Expect: 100-continue").partition(body)
    with Wire(proxy.port) as wire:
        assert wire.ask(head).status == 100
        wire.send(body)
        assert wire.read().status == 202


def test_events_come_through(proxy: Proxy, server: Server, gate: Gate) -> None:
    path = server.submit("until_file", gate.path)
    server.wait_for(path, "running")
    with Wire(proxy.port) as wire:
        wire.send(request("GET", path + "/events", "Connection: close"))
        received = b""
        while b"running" not in received:
            received += wire.read_some()
        gate.open()
        assert b"succeeded" in wire.read_all()


def test_a_connection_is_kept_for_many_requests(proxy: Proxy) -> None:
    with Wire(proxy.port) as wire:
        for _ in range(20):
            wire.send(request("GET", "/healthz") + request("HEAD", "/nowhere") + post(submission("nothing")))
            assert [wire.read(method).status for method in ("GET", "HEAD", "POST")] == [200, 404, 202]


def test_a_refusal_comes_through(proxy: Proxy) -> None:
    assert proxy.ask(post(b"{")).status == 400
    assert proxy.ask(request("POST", "/jobs", "Content-Type: text/plain", body=b"{}")).status == 415
    assert proxy.ask(request("PUT", "/jobs", body=b"{}"))["allow"] == "GET, HEAD, OPTIONS, POST"
    assert proxy.ask(request("OPTIONS", "/jobs")).status == 204
