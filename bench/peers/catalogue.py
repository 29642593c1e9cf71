"""The peers: how each is started, what it needs, and which version it is."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.measure import HOST, ROOT, BenchError

HERE = Path(__file__).parent
PIP_INSTALL = "pip install --group bench-peers"


@dataclass(frozen=True, slots=True)
class Peer:
    """One stack: ``argv`` makes its command from a port and a folder for its files; ``install`` is how to get it."""

    name: str
    argv: Callable[[int, Path], Sequence[str]]
    version: Callable[[], str]
    modules: Sequence[str] = ()
    program: str = ""
    install: str = PIP_INSTALL
    env: Callable[[int], Mapping[str, str]] = field(default=lambda _: {})
    # States of the job that is polled; nginx knows none and answers all alike.
    states: Sequence[str] = ("finished",)

    @property
    def missing(self) -> str:
        """What is not installed; empty where nothing is missing."""
        if self.program and not _program(self.program):
            return self.program
        return ", ".join(module for module in self.modules if importlib.util.find_spec(module) is None)


def _program(name: str) -> str:
    """The path of a program; Debian has nginx where only root looks."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin") or ""


def _nginx(port: int, folder: Path) -> Sequence[str]:
    conf = folder / "nginx.conf"
    text = (HERE / "nginx.conf").read_text().replace("FOLDER", str(folder)).replace("PORT", str(port))
    if os.geteuid() == 0:
        text = "user root;\n" + text
    conf.write_text(text)
    return [_program("nginx"), "-p", str(folder), "-c", str(conf)]


def _nginx_version() -> str:
    said = subprocess.run([_program("nginx"), "-v"], capture_output=True, text=True).stderr
    return said.strip().rpartition("/")[2]


def _go(port: int, folder: Path) -> Sequence[str]:
    binary = folder / "go_http"
    if not binary.exists():
        env = os.environ | {"GOPROXY": "off", "GOFLAGS": "-mod=mod", "GO111MODULE": "off"}
        built = subprocess.run(
            [_program("go"), "build", "-o", str(binary), str(HERE / "go_http.go")],
            capture_output=True,
            text=True,
            env=env,
        )
        if built.returncode:
            raise BenchError(f"go build: {built.stderr.strip().splitlines()[-1]}")
    return [str(binary), str(port)]


def _go_version() -> str:
    return (
        subprocess.run([_program("go"), "version"], capture_output=True, text=True).stdout.split()[2].removeprefix("go")
    )


def _headway(_: int, __: Path) -> Sequence[str]:
    return [sys.executable, "-m", "headway", "serve", "--config", str(ROOT / "config.yaml")]


def _uvicorn(module: str) -> Callable[[int, Path], Sequence[str]]:
    def argv(port: int, _: Path) -> Sequence[str]:
        options = f"--host {HOST} --port {port} --loop uvloop --http httptools --no-access-log --log-level warning"
        return [sys.executable, "-m", "uvicorn", *options.split(), "--backlog", "4096", f"bench.peers.{module}:app"]

    return argv


def _granian(port: int, _: Path) -> Sequence[str]:
    options = f"--interface rsgi --host {HOST} --port {port} --workers 1 --loop uvloop --no-ws --log-level warning"
    return [sys.executable, "-m", "granian", *options.split(), "--backlog", "4096", "bench.peers.granian_app:app"]


def _aiohttp(port: int, _: Path) -> Sequence[str]:
    return [sys.executable, "-m", "bench.peers.aiohttp_app", str(port)]


def _versions(*packages: str) -> Callable[[], str]:
    return lambda: ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)


HEADWAY = Peer(
    "Headway",
    _headway,
    _versions("headway", "uvloop", "httptools"),
    env=lambda port: {
        "HEADWAY_SERVER__PORT": str(port),
        "HEADWAY_TASKS": "[examples.tasks]",
        "HEADWAY_JOURNAL__PATH": "null",
        # A POST that is refused is no POST. Those that still wait at the end of a load are waited for.
        "HEADWAY_QUEUE__SIZE": "1000000",
    },
    states=("finished", "running", "queued"),
)
NGINX = Peer("nginx", _nginx, _nginx_version, program="nginx", install="apt install nginx-light, brew install nginx")
PEERS = (
    NGINX,
    HEADWAY,
    Peer("Go net/http", _go, _go_version, program="go", install="apt install golang-go, brew install go"),
    Peer("Granian RSGI", _granian, _versions("granian", "uvloop"), ["granian", "uvloop"]),
    Peer("BlackSheep", _uvicorn("blacksheep_app"), _versions("blacksheep", "uvicorn"), ["blacksheep", "uvicorn"]),
    Peer("Starlette", _uvicorn("starlette_app"), _versions("starlette", "uvicorn"), ["starlette", "uvicorn"]),
    Peer("aiohttp", _aiohttp, _versions("aiohttp", "uvloop"), ["aiohttp", "uvloop"]),
    Peer("FastAPI", _uvicorn("fastapi_app"), _versions("fastapi", "uvicorn"), ["fastapi", "uvicorn"]),
)
