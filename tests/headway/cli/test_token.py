"""``headway token``: what people see of it, and what a server makes of it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from headway.protocol.access.scopes import SCOPES
from headway.protocol.access.tokens import Tokens, read

from tests.end_to_end.command import run
from tests.end_to_end.process import environment

FILE = "headway-tokens.yaml"
Token = Callable[..., Result]


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Token:
    """Run ``headway token`` in a folder of its own."""
    for name in (name for name in os.environ if name.startswith(("HEADWAY_", "STATE_DIRECTORY"))):
        monkeypatch.delenv(name)
    return lambda *arguments, **given: run(tmp_path, "token", *arguments, **given)


def scopes_of(folder: Path, secret: str) -> frozenset[str]:
    """The scopes by which a server that starts now knows a token."""
    caller = Tokens(folder / FILE, ids_tell=True).caller(secret.strip().encode())
    return frozenset() if caller is None else caller.scopes


def test_a_token_is_written_once_and_kept_by_its_hash(tmp_path: Path, token: Token) -> None:
    made = token("add", "shop", "--scope", "submit:report, metrics", "--scope", "cancel", "--scope", "cancel")
    assert made.stdout.startswith("hw_")
    assert made.stdout.count("\n") == 1
    assert made.stderr.splitlines() == [
        f"headway: added shop to {tmp_path / FILE}, with the scopes submit:report, metrics, cancel",
        "headway: it is the first one: from now on clients need a token",
    ]
    text = (tmp_path / FILE).read_text()
    assert made.stdout.strip() not in text
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert scopes_of(tmp_path, made.stdout) == {"submit", "metrics", "cancel"}
    assert "first one" not in token("add", "other", "--scope", "view").stderr


def test_all_stands_for_the_scopes_of_today(tmp_path: Path, token: Token) -> None:
    made = token("add", "boss", "--scope", "all")
    assert scopes_of(tmp_path, made.stdout) == set(SCOPES)
    assert [kept.scopes for kept in read(tmp_path / FILE)] == [tuple(SCOPES)]


def test_a_list_has_no_whole_hash(tmp_path: Path, token: Token) -> None:
    assert token("list").stderr == f"headway: there are no tokens in {tmp_path / FILE}: headway token add makes one\n"
    for name, scope in (("shop", "submit"), ("graph", "metrics,view")):
        token("add", name, "--scope", scope)
    shop, graph = read(tmp_path / FILE)
    head, *lines = token("list").stdout.splitlines()
    assert head.split() == ["NAME", "SCOPES", "CREATED", "SHA256"]
    assert lines[0].split() == ["shop", "submit", shop.created, shop.sha256[:8]]
    assert lines[1].split() == ["graph", "metrics,view", graph.created, graph.sha256[:8]]
    documents = [json.loads(line) for line in token("list", "--json").stdout.splitlines()]
    assert documents[1] == {
        "name": "graph",
        "scopes": ["metrics", "view"],
        "created": graph.created,
        "sha256": graph.sha256[:8],
    }


def test_a_rotation_has_two_valid_tokens_until_the_older_one_is_removed(tmp_path: Path, token: Token) -> None:
    old = token("add", "shop", "--scope", "submit:report,view").stdout
    token("add", "other", "--scope", "read")
    rotated = token("rotate", "shop")
    new = rotated.stdout
    assert "headway token remove shop --older" in rotated.stderr
    assert scopes_of(tmp_path, old) == scopes_of(tmp_path, new) == {"submit", "view"}
    third = token("rotate", "shop", code=1)
    assert (third.stdout, third.stderr.count("\n")) == ("", 1)
    assert "headway token remove shop --older" in third.stderr
    token("remove", "shop", "--older")
    assert scopes_of(tmp_path, old) == frozenset()
    assert scopes_of(tmp_path, new) == {"submit", "view"}
    assert "none older" in token("remove", "shop", "--older", code=1).stderr
    token("rotate", "shop")
    assert "removed 2 tokens shop" in token("remove", "shop").stderr
    assert [kept.name for kept in read(tmp_path / FILE)] == ["other"]
    assert "it was the last one" in token("remove", "other").stderr


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["add", "shop", "--scope", "view"], 1, "there is a token shop already: headway token rotate shop"),
        (["add", "a/b", "--scope", "view"], 2, "'a/b' is not allowed as a name: expected 1 to 64 of"),
        (["add", "a\n", "--scope", "view"], 2, "is not allowed as a name"),
        (["add", "new"], 2, "Missing option '--scope': see "),
        (["add", "new", "--scope", "views"], 2, "--scope: no scope 'views'. There are submit, read"),
        (["add", "new", "--scope", ""], 2, "--scope: no scope ''"),
        (["add", "new", "--scope", "read:report"], 2, "no scope 'read:report'"),
        (["add", "new", "--scope", "submit:"], 2, "no scope 'submit:'"),
        (["rotate", "none"], 1, "there is no token 'none'"),
        (["remove", "none"], 1, "there is no token 'none'"),
        (["list", "--config", "none.yaml"], 2, "none.yaml"),
    ],
)
def test_a_fault_is_one_line_and_changes_nothing(
    tmp_path: Path, token: Token, arguments: list[str], code: int, part: str
) -> None:
    token("add", "shop", "--scope", "view")
    before = (tmp_path / FILE).read_bytes()
    ended = token(*arguments, code=code)
    assert (ended.stdout, ended.stderr.count("\n")) == ("", 1), ended.output
    assert ended.stderr.startswith("headway: ")
    assert part in ended.stderr
    assert (tmp_path / FILE).read_bytes() == before


def test_the_file_is_that_of_the_server(tmp_path: Path, token: Token) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "own.yaml").write_text("auth: {tokens: own-tokens.yaml}\n")
    token("add", "a", "--scope", "view", STATE_DIRECTORY="state:more")
    token("add", "b", "--scope", "view", HEADWAY_AUTH__TOKENS="named.yaml")
    token("add", "c", "--scope", "view", "--config", "own.yaml")
    token("add", "d", "--scope", "view", HEADWAY_CONFIG="own.yaml")
    found = {
        str(path.relative_to(tmp_path)): [kept.name for kept in read(path)]
        for path in tmp_path.rglob("*.yaml")
        if "tokens" in path.name or path.name == "named.yaml"
    }
    assert found == {f"state/{FILE}": ["a"], "named.yaml": ["b"], "own-tokens.yaml": ["c", "d"]}


def test_a_file_that_cannot_be_used_is_said(tmp_path: Path, token: Token) -> None:
    gone = token("add", "a", "--scope", "view", HEADWAY_AUTH__TOKENS="no/tokens.yaml", code=2)
    assert gone.stderr == "headway: auth.tokens: no/tokens.yaml: cannot be written: No such file or directory\n"
    (tmp_path / FILE).write_text("- name: a\n")
    for command in (["list"], ["add", "b", "--scope", "view"], ["remove", "a"]):
        ended = token(*command, code=2)
        assert (ended.stdout, ended.stderr.count("\n")) == ("", 1)
        assert "missing required field `sha256`" in ended.stderr


def test_who_lets_anyone_in_is_told(token: Token) -> None:
    assert "auth: none" in token("add", "a", "--scope", "view", HEADWAY_AUTH="none").stderr
    assert "auth: none" not in token("list").stderr


def test_the_scopes_are_explained(token: Token) -> None:
    lines = token("scopes").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["SCOPE", *SCOPES, "all"]
    for line, text in zip(lines[1:], SCOPES.values(), strict=False):
        assert line.endswith(text)


@pytest.mark.parametrize(("output", "code"), [("/dev/full", 2), ("closed", 2), ("gone", 141)])
@pytest.mark.parametrize("action", ["add", "rotate"])
def test_a_token_that_could_not_be_shown_is_not_kept(
    tmp_path: Path, token: Token, action: str, output: str, code: int
) -> None:
    token("add", "shop", "--scope", "view")
    before = read(tmp_path / FILE)
    words = [
        sys.executable,
        "-m",
        "headway",
        "token",
        action,
        *(["b", "--scope", "view"] if action == "add" else ["shop"]),
    ]
    if output == "closed":
        words = ["sh", "-c", 'exec "$@" >&-', "sh", *words]
    reads, writes = os.pipe()
    os.close(reads)
    with open(output if output == "/dev/full" else os.devnull, "wb") as file:
        stdout = writes if output == "gone" else file.fileno()
        ended = subprocess.run(
            words, cwd=tmp_path, env=environment({}), stdout=stdout, stderr=subprocess.PIPE, text=True, check=False
        )
    os.close(writes)
    assert ended.returncode == code, ended.stderr
    assert ended.stderr.count("\n") == (code == 2)
    assert read(tmp_path / FILE) == before


def test_the_program_does_the_same(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "headway", "token", "add", "shop", "--scope", "view"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment({}), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert scopes_of(tmp_path, ended.stdout) == {"view"}
