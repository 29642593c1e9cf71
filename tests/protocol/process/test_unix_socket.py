"""A Unix socket in place of host and port: its file, its mode, its clients."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pytest
from headway.core.config import Config, ServerSection
from headway.core.errors import ConfigError
from headway.protocol.process.listener import close_all_at, look, open_listener

from headway import AsyncClient, Client
from tests.conftest import Start
from tests.end_to_end.process import environment
from tests.protocol.wire import PATIENCE_S, Wire, post, request, submission


def at(path: Path, **more: object) -> Config:
    return Config(server=ServerSection(socket=str(path), **more))  # type: ignore[arg-type]


@contextmanager
def connected(path: Path) -> Iterator[Wire]:
    """Connect."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_S)
        client.connect(str(path))
        yield Wire.over(client)


def url_of(path: Path) -> str:
    return f"http+unix://{quote(str(path), safe='')}"


def test_requests_are_answered_and_the_file_goes_at_the_end(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "headway.sock"
    server = start(server__socket="headway.sock", server__socket_mode="0600", log__access=True, rates__polls=1000)
    assert f"serving {url_of(path)} " in "".join(server.said)
    assert not any("who can reach" in line for line in server.said)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with connected(path) as wire:
        accepted = wire.ask(post(submission("sleep", {"seconds": 0.01})))
        ended = wire.ask(request("HEAD", accepted["location"], "Prefer: wait=20"))
        assert ended["job-state"] == "succeeded"
        wire.send(request("GET", "/healthz", "Connection: close"))
        assert wire.read().body == b"ok\n"
        wire.read_end()
    server.wait_for_line(r'"unix \\"GET /healthz\\" 200')
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert not path.exists()


def test_a_stale_file_is_replaced_and_a_live_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = open_listener(at(path), None)
    with pytest.raises(ConfigError, match=r"another server listens there: stop it, or name another path"):
        open_listener(at(path), None)
    # As after a SIGKILL.
    first.socket.close()
    assert path.exists()
    second = open_listener(at(path, socket_mode="0666"), None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    first.close()
    assert path.exists()
    second.close()
    second.close()
    assert not path.exists()


def test_a_look_changes_nothing(tmp_path: Path) -> None:
    """Neither where nothing is, nor of a stale file, nor of a server that listens."""
    path = tmp_path / "s"
    look(at(path))
    assert list(tmp_path.iterdir()) == []
    listener = open_listener(at(path), None)
    with pytest.raises(ConfigError, match=r"another server listens there"):
        look(at(path))
    listener.socket.close()
    before = path.stat()
    look(at(path))
    assert path.stat() == before


def test_a_live_server_with_a_full_queue_is_no_stale_file(tmp_path: Path) -> None:
    path = tmp_path / "s"
    ours = open_listener(at(path, backlog=1), None)
    with ExitStack() as stack:
        with suppress(BlockingIOError):
            while True:
                waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(str(path))
        with pytest.raises(ConfigError, match=r"another server listens there"):
            open_listener(at(path), None)
    assert path.exists()
    ours.close()


def test_the_file_of_another_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    ours = open_listener(at(path), None)
    path.rename(tmp_path / "moved")
    theirs = open_listener(at(path), None)
    ours.close()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    theirs.close()
    assert not path.exists()


def test_places_that_cannot_be_had(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    for path, fault in (
        (file, "there is a file that is no socket: remove it, or name another path"),
        (tmp_path / "none" / "s", "No such file or directory"),
        (tmp_path / ("x" * 120), "AF_UNIX path too long"),
    ):
        with pytest.raises(ConfigError) as raised:
            open_listener(at(path), None)
        assert str(raised.value) == f"cannot listen on server.socket '{path}': {fault}"
        with pytest.raises(ConfigError) as looked:
            look(at(path))
        # Of a folder that is missing it says which.
        assert str(looked.value).startswith(str(raised.value).partition("No such")[0])
    assert file.read_text() == "mine"


def test_the_sockets_of_one_place_are_closed_and_no_other(tmp_path: Path) -> None:
    """In a forked child: those on which clients were accepted, too."""
    ours, theirs = open_listener(at(tmp_path / "a"), None), open_listener(at(tmp_path / "b"), None)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "a"))
        accepted = ours.socket.accept()[0]
        close_all_at(ours.place)
        for closed in (ours.socket, accepted):
            with pytest.raises(OSError, match="Bad file descriptor"):
                closed.getsockname()
            closed.detach()
        assert client.recv(1) == b""
    assert theirs.socket.getsockname() == str(tmp_path / "b")
    theirs.close()


@pytest.mark.long
def test_a_deploy_keeps_it(start: Start, tmp_path: Path) -> None:
    """And says so if the settings name another place."""
    path = tmp_path / "s"
    (tmp_path / "config.yaml").write_text(f"server: {{socket: {path}}}")
    server = start()
    inode = path.stat().st_ino
    assert "not deployed" not in server.deploy()
    (tmp_path / "config.yaml").write_text(f"server: {{socket: {tmp_path}/t}}")
    said = len(server.said)
    assert "not deployed" not in server.deploy()
    line = server.wait_for_line("keeps its socket", after=said)
    assert f"server.socket is {tmp_path}/t now" in line
    assert path.stat().st_ino == inode
    with connected(path) as wire:
        assert wire.still_serves()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert not path.exists()


@pytest.mark.long
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_the_client_and_the_command_line(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "s"
    start(server__socket=str(path), http__base_path="/below")
    words = ["curl", "-sS", "--unix-socket", str(path), "http://localhost/below/healthz"]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "ok\n"
    url = url_of(path) + "/below"
    with Client(url) as client:
        job = client.submit("echo", [1])
        assert job.result() == [1]
        assert job.url == f"{url}/jobs/{job.id}"
        assert client.job(job.url).result() == [1]
    for variables in ({"HEADWAY_URL": url}, {"HEADWAY_SERVER__SOCKET": str(path), "HEADWAY_HTTP__BASE_PATH": "/below"}):
        said = subprocess.run(
            [sys.executable, "-m", "headway", "submit", "echo", "[2]", "--wait"],
            env=environment({}) | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (said.stdout, said.stderr, said.returncode) == ("[2]", "", 0)


@pytest.mark.parametrize("url", ["http+unix://", "http+unix:///run/s", "unix:///run/s", "http+unix://%2Fs?a=b"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected http://host:port, https://host or http\+unix://%2Frun%2F"):
        Client(url)


def test_for_asyncio(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "s"
    start(server__socket=str(path))

    async def ask() -> object:
        async with AsyncClient(url_of(path)) as client:
            return await (await client.submit("echo", [3])).result()

    assert asyncio.run(ask()) == [3]
