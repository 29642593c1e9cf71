"""A server that makes its first token by itself, as the container does."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
from headway.protocol.access.token_file import TokenFile
from headway.protocol.access.tokens import read

from tests.conftest import Start
from tests.end_to_end.command import run
from tests.end_to_end.process import AS_SHIPPED, Server
from tests.protocol.wire import post

BEYOND = {"server__host": "0.0.0.0", "auth__first_token": True}


def told(server: Server) -> list[str]:
    """The tokens in the log."""
    return [token for line in server.said for token in re.findall(r"hw_[\w-]{43}", line)]


def test_it_is_told_once_and_lets_its_bearer_do_all(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "headway-tokens.yaml"
    server = start(**BEYOND)
    (token,) = told(server)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token not in path.read_text()
    for lines, code in (
        ((), 401),
        (("Authorization: Bearer hw_wrong",), 401),
        ((f"Authorization: Bearer {token}",), 200),
    ):
        for target in ("/jobs", "/metrics", "/tasks", "/history"):
            assert server.get(target, *lines).status == code, (target, lines)
    before = path.read_bytes()
    assert "not deployed" not in server.deploy()
    assert server.get("/jobs", f"Authorization: Bearer {token}").status == 200
    again = start(**BEYOND)
    assert again.get("/jobs", f"Authorization: Bearer {token}").status == 200
    assert (told(server), told(again), path.read_bytes()) == ([token], [], before)


@pytest.mark.long
def test_it_is_not_made_beside_others_or_for_anyone(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "headway-tokens.yaml"
    assert told(start(auth__mode="none", auth__first_token=True)) == []
    assert not path.exists()
    secret = TokenFile(path).add("shop", ["view"])
    server = start(**BEYOND)
    assert told(server) == []
    assert [token.name for token in read(path)] == ["shop"]
    assert server.get("/jobs", f"Authorization: Bearer {secret}").status == 200


def test_a_server_without_tokens_does_not_listen_to_other_machines(tmp_path: Path) -> None:
    server = Server(tmp_path, {"server__port": 0, "server__host": "0.0.0.0"})
    try:
        assert server.wait() == 2
        (line,) = server.stderr
        assert line.startswith("headway: server.host: 0.0.0.0 lets other machines in, and there are no tokens:")
        assert not list(tmp_path.glob("*tokens*"))
    finally:
        server.kill()


@pytest.mark.long
def test_a_project_of_headway_init_is_opened_by_the_command_that_its_refusal_names(tmp_path: Path) -> None:
    run(tmp_path, "init")
    (comment,) = (line for line in (tmp_path / "headway.yaml").read_text().splitlines() if "host:" in line)
    settings = {"server__port": 0, "server__host": "0.0.0.0", "tasks": AS_SHIPPED}
    refused = Server(tmp_path, settings)
    try:
        assert refused.wait() == 2
        (line,) = refused.stderr
    finally:
        refused.kill()
    (command,) = set(re.findall(r"headway token add NAME --scope [a-z]+,[a-z]+", line + comment))
    secret = run(tmp_path, *command.replace("NAME", "shop").split()[1:]).stdout.strip()
    server = Server(tmp_path, settings)
    try:
        server.wait_until_serving()
        body = b'{"task": "greet", "payload": {"name": "Ada"}}'
        for lines, code in (((), 401), ((f"Authorization: Bearer {secret}",), 202)):
            assert server.ask(post(body, *lines)).status == code
    finally:
        server.kill()


def test_a_file_that_cannot_be_made_ends_the_start(tmp_path: Path) -> None:
    server = Server(tmp_path, BEYOND | {"server__port": 0, "auth__tokens": "no/tokens.yaml"})
    try:
        assert server.wait() == 2
        assert server.stderr == ["headway: auth.tokens: no/tokens.yaml: cannot be written: No such file or directory"]
    finally:
        server.kill()
