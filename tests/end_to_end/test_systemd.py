"""What systemd passes and hears, with a socket and a listener of our own in its place."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from headway.core.config import Config
from headway.core.errors import ConfigError
from headway.protocol.access.token_file import TokenFile
from headway.protocol.process import systemd

from tests.end_to_end.process import ROOT, Server, environment
from tests.protocol.wire import PATIENCE_S

pytestmark = pytest.mark.long

# What docs/deploy.md adds to a drain.
ENDING_S = 7

# Becomes the program that follows, with the descriptor that is named first as number 3, as systemd leaves it.
PASS = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str({pid})
os.execv(sys.argv[2], sys.argv[2:])
"""


@contextmanager
def serving(folder: Path, fd: int, *variables: str, pid: str = "os.getpid()") -> Iterator[Server]:
    """Start a server as systemd does: ``fd`` is passed to it."""
    before = ["env", *variables, sys.executable, "-c", PASS.format(pid=pid), str(fd)]
    server = Server(folder, {"drain_linger": 0, "server__port": 0}, before=before, pass_fds=[fd])
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A socket that listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def test_a_socket_that_is_open_to_all_needs_a_token(tmp_path: Path) -> None:
    """Also where systemd listens on it, whatever ``server.host`` is."""
    with socket.create_server(("0.0.0.0", 0)) as listener:
        with serving(tmp_path, listener.fileno(), "LISTEN_FDS=1") as server:
            assert server.wait() == 2
            (line,) = server.stderr
            assert "0.0.0.0 lets other machines in, and there are no tokens" in line
        line = f"Authorization: Bearer {TokenFile(tmp_path / 'headway-tokens.yaml').add('shop', ['view'])}"
        with serving(tmp_path, listener.fileno(), "LISTEN_FDS=1") as server:
            server.wait_for_line("serving http://")
            server.port = listener.getsockname()[1]
            assert (server.get("/jobs").status, server.get("/jobs", line).status) == (401, 200)


def test_check_looks_at_the_socket_that_is_passed(tmp_path: Path) -> None:
    """And not at the port of the settings, which a start then leaves alone."""
    with socket.create_server(("127.0.0.1", 0)) as near, socket.create_server(("0.0.0.0", 0)) as open_to_all:
        port = near.getsockname()[1]
        for listener, count, code, said in (
            (near, 1, 0, "no tasks"),
            (open_to_all, 1, 2, "0.0.0.0 lets other machines in, and there are no tokens"),
            (near, 2, 2, "systemd passes 2 sockets"),
        ):
            fd = listener.fileno()
            words = [sys.executable, "-c", PASS.format(pid="os.getpid()"), str(fd), sys.executable, "-m", "headway"]
            variables = environment({}) | {"LISTEN_FDS": str(count), "HEADWAY_SERVER__PORT": str(port)}
            ended = subprocess.run(
                [*words, "serve", "--check"],
                cwd=tmp_path,
                env=variables,
                pass_fds=[fd],
                capture_output=True,
                text=True,
                check=False,
            )
            assert (ended.returncode, said in ended.stderr) == (code, True), ended.stderr


def test_socket_activation(tmp_path: Path, listening: socket.socket) -> None:
    """Also of one who came before there was a server, and after a deploy."""
    port = listening.getsockname()[1]
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE_S) as early,
        serving(tmp_path, listening.fileno(), "LISTEN_FDS=1", "LISTEN_FDNAMES=headway.socket") as server,
    ):
        early.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert early.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
        server.wait_until_serving()
        assert server.port == port
        server.deploy()
        assert server.get("/healthz").status == 200
        assert not any("keeps its socket" in line for line in server.said)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_a_unix_socket_is_systemds_own(tmp_path: Path) -> None:
    """It serves, over a deploy too, and its file stays at the end."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with serving(tmp_path, listener.fileno(), "LISTEN_FDS=1") as server:
            server.wait_for_line(r"serving http\+unix://%2F")
            server.deploy()
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(PATIENCE_S)
                client.connect(str(path))
                client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                assert client.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
    assert path.exists()


def test_a_socket_for_somebody_else_is_left_alone(tmp_path: Path, listening: socket.socket) -> None:
    with serving(tmp_path, listening.fileno(), "LISTEN_FDS=1", pid="1") as server:
        server.wait_until_serving()
        assert server.port != listening.getsockname()[1]


def test_what_cannot_be_served_is_refused(tmp_path: Path, listening: socket.socket) -> None:
    with (
        socket.socket() as silent,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.socket(socket.AF_UNIX) as local,
        open(os.devnull) as file,
    ):
        local.bind(str(tmp_path / "socket"))
        for passed, count, fault in (
            (listening, 2, "systemd passes 2 sockets"),
            (silent, 1, "does not listen"),
            (datagrams, 1, "no stream"),
            (local, 1, "no stream or does not listen"),
            (file, 1, "is no socket"),
        ):
            fd = passed.fileno() if count == 2 else os.dup(passed.fileno())
            variables = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(count)}
            with pytest.raises(ConfigError, match=fault):
                systemd.activated(variables, fd)
            assert variables == {}


class Systemd:
    """Hears what a service tells."""

    def __init__(self, folder: Path, name: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(name.replace("@", "\0"))
        self._socket.settimeout(PATIENCE_S)
        settings = {"server__port": 0, "drain_linger": 0, "tasks": ["tests.end_to_end.tasks_for_tests"]}
        self.server = Server(folder, settings, before=["env", f"NOTIFY_SOCKET={name}", "WATCHDOG_USEC=3000000"])

    def __enter__(self) -> Systemd:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.kill()
        self._socket.close()

    def hear(self, sign_of_life: bool = False) -> dict[str, str]:
        """Return the next message; those that are signs of life only where it is one of them that is waited for."""
        patience = time.monotonic() + PATIENCE_S
        while (message := self._socket.recv(4096)) == b"WATCHDOG=1" and not sign_of_life:
            assert time.monotonic() < patience, "only signs of life come"
        return dict(line.split("=", 1) for line in message.decode().splitlines())


def test_what_is_told(tmp_path: Path) -> None:
    with Systemd(tmp_path, str(tmp_path / "notify")) as there:
        ready, server = there.hear(), there.server
        server.wait_until_serving()
        assert ready == {"READY": "1", "STATUS": f"serving http://127.0.0.1:{server.port}"}
        server.deploy()
        begin = time.monotonic()
        reloading = there.hear()
        assert reloading["RELOADING"] == "1"
        assert begin - 20 < int(reloading["MONOTONIC_USEC"]) / 1e6 < begin
        assert there.hear() == ready
        # The new image is watched too.
        assert there.hear(sign_of_life=True) == {"WATCHDOG": "1"}
        # A deploy that comes to nothing has an end as well.
        (tmp_path / "config.yaml").write_text("workers: 0")
        server.deploy()
        assert there.hear()["RELOADING"] == "1"
        failed = there.hear()
        assert failed["READY"] == "1"
        assert "not deployed: config.yaml: workers: 0" in failed["STATUS"]
        server.signal(signal.SIGTERM)
        assert there.hear() == {"STOPPING": "1", "STATUS": "draining"}
        assert server.wait() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="abstract addresses are Linux's")
def test_an_abstract_address(tmp_path: Path) -> None:
    with Systemd(tmp_path, f"@headway-test-{os.getpid()}") as there:
        assert there.hear()["READY"] == "1"


UNITS = ("headway.service", "headway.socket")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("wrong", ["", "StateDirektory=headway"])
def test_the_units_are_good(tmp_path: Path, wrong: str) -> None:
    """As they stand but for the program, which has to be one that is there."""
    for unit in UNITS:
        text = (ROOT / "examples" / unit).read_text().replace("/srv/headway/.venv/bin/headway", "/bin/true")
        (tmp_path / unit).write_text(text.replace("StateDirectory=headway", wrong or "StateDirectory=headway"))
    units = [str(tmp_path / unit) for unit in UNITS]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if "headway" in line]
    assert bool(ours) == bool(wrong), ours


def test_all_that_keeps_a_server_alive_starts_it_again_after_exit_code_0() -> None:
    """A task that ends the process may have any code."""
    found = {}
    for path in (*(ROOT / "examples").rglob("*.service"), *ROOT.glob("compose*.yaml")):
        found[path.name] = re.findall(r"(?m)^(?:Restart=| +restart: )(.+)$", path.read_text())
    assert found.pop("headway.service") == ["always"]
    assert set(found) == {"compose.yaml", "compose.cluster.yaml"}
    assert {policy for policies in found.values() for policy in policies} == {"unless-stopped"}


def test_the_unit_has_what_every_systemd_since_252_knows() -> None:
    """And a stop that is longer than the server may take with default settings."""
    unit = (ROOT / "examples" / "headway.service").read_text()
    lines = [line for line in unit.splitlines() if line and line[0] not in "#["]
    said = dict(line.split("=", 1) for line in lines if not line.startswith("Environment="))
    assert (said["Type"], said["ExecReload"], said["StateDirectory"]) == ("notify", "kill -HUP $MAINPID", "headway")
    # A relative journal.path lies in the folder that systemd names.
    assert not any("JOURNAL" in line for line in lines)
    longest = Config().drain_timeout + Config().drain_linger + ENDING_S
    assert min(int(said["TimeoutStopSec"]), int(said["TimeoutStartSec"])) > longest
