"""The command line, in the test's own process or in one of its own."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from headway.cli.main import main
from tests.end_to_end.process import Server, environment


class Ran(NamedTuple):
    """An end of the command line."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines of the output."""
        return self.out.splitlines()

    @property
    def documents(self) -> list[Any]:
        """The output as documents, one a line."""
        return [json.loads(line) for line in self.lines]


Headway = Callable[..., Ran]
Spawn = Callable[..., "subprocess.Popen[bytes]"]


def run(port: int | None, *arguments: object, given: bytes | None = None) -> Ran:
    """Run the command line in this process. HEADWAY_URL names the server on ``port``, if that is given."""
    variables = {"HEADWAY_URL": None if port is None else f"http://127.0.0.1:{port}"}
    ran = CliRunner().invoke(main, list(map(str, arguments)), input=given, env=variables, prog_name="headway")
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    return Ran(ran.exit_code, ran.stdout_bytes.decode("latin-1"), ran.stderr)


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    """Start the command line in processes of their own."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(port: int, *arguments: object, variables: Mapping[str, str] | None = None, **given: Any) -> Any:
        env = environment({}) | {"HEADWAY_URL": f"http://127.0.0.1:{port}", "TERM": "xterm", "COLUMNS": "100"}
        env = {name: value for name, value in env.items() if name != "NO_COLOR"} | dict(variables or {})
        streams: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        } | given
        command = [sys.executable, "-m", "headway", *map(str, arguments)]
        process = subprocess.Popen(command, cwd=tmp_path, env=env, **streams)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """Take away what a command has done to the log of the client."""
    log = logging.getLogger("headway.client")
    handlers, propagate = list(log.handlers), log.propagate
    yield
    log.handlers, log.propagate = handlers, propagate


@pytest.fixture
def headway(server: Server) -> Headway:
    """Run the command line with the shared server."""
    return lambda *arguments, **given: run(server.port, *arguments, **given)
