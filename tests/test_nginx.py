"""examples/nginx.conf, in front of a live server."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from headway.protocol.access.token_file import TokenFile

from tests.conftest import Start
from tests.end_to_end.process import Server, wait_until
from tests.protocol.wire import Wire, post, request, submission

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent
EXAMPLE = (ROOT / "examples/nginx.conf").read_text()
DEPLOY = (ROOT / "docs/deploy.md").read_text()
FRAME = """\
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr warn;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {example}
}}
"""
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"


def on_loopback(folder: Path, port: int, server: Server) -> str:
    """The example without TLS, which needs a certificate, and with ports of the test."""
    example = EXAMPLE.replace("listen 443 ssl", f"listen 127.0.0.1:{port}")
    example = example.replace("127.0.0.1:8080", f"127.0.0.1:{server.port}")
    return re.sub(r" *ssl_\w+ [^;]+;\n", "", example)


@pytest.mark.skipif(not Path(NGINX).exists(), reason="nginx is not installed")
def test_the_proxy_of_the_example_works(start: Start, tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path / "headway-tokens.yaml")
    # Two, since each has a rate of its own.
    secret, other = (f"Authorization: Bearer {tokens.add(name, ['submit', 'view'])}" for name in ("shop", "other"))
    server = start(http__trusted_proxies=["127.0.0.1/32"], rates__submits=1, rates__submits_window=60)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = tmp_path / "nginx.conf"
    config.write_text(FRAME.format(folder=tmp_path, example=on_loopback(tmp_path, port, server)))
    proxy = subprocess.Popen([NGINX, "-p", tmp_path, "-c", config], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers(port), bool)
        with Wire(port) as wire:
            assert wire.ask(request("GET", "/stats")).status == 401
        with Wire(port) as wire:
            job = submission("sleep", {"seconds": 0.2})
            accepted = wire.ask(post(job, secret, "X-Forwarded-For: 192.0.2.7"))
            assert accepted.status == 202
            ended = wire.ask(request("HEAD", accepted["location"], secret, "Prefer: wait=20"))
            assert (ended.status, ended["job-state"]) == (200, "succeeded")
            # A token has a rate of its own, wherever it comes from.
            assert wire.ask(post(job, secret, "X-Forwarded-For: 192.0.2.8")).status == 429
            assert wire.ask(post(job, other, "X-Forwarded-For: 192.0.2.8")).status == 202
    finally:
        proxy.terminate()
        proxy.wait(20)


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_the_lines_of_the_page_are_those_of_the_example() -> None:
    (block,) = re.findall(r"```nginx\n(.*?)```", DEPLOY, re.DOTALL)
    shown = {line.strip() for line in block.splitlines() if line.strip()}
    assert shown - {line.strip() for line in EXAMPLE.splitlines()} == set()
