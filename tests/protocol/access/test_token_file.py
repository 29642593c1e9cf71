"""Changes of the file of tokens: none is lost, and none is seen half."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from headway.core.errors import ConfigError
from headway.protocol.access.scopes import SCOPES
from headway.protocol.access.token_file import TokenFile
from headway.protocol.access.tokens import Tokens, read, too_open

AT_ONCE = 12


def test_no_change_is_lost_to_another(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.yaml")
    names = [f"token-{number}" for number in range(AT_ONCE)]
    with ThreadPoolExecutor(4) as pool:
        secrets = list(pool.map(lambda name: file.add(name, ["view"]), names))
    assert {token.name for token in file.tokens()} == set(names)
    callers = [Tokens(file.path, ids_tell=True).caller(secret.encode()) for secret in secrets]
    assert [caller.name for caller in callers if caller] == names


def test_who_reads_during_a_change_reads_the_file_of_before(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.yaml")
    file.add("a", ["view"])
    before = file.path.read_bytes()
    with file.path.open("rb") as begun:
        file.add("b", ["view"])
        assert begun.read() == before
    assert [token.name for token in file.tokens()] == ["a", "b"]


def test_one_of_many_makes_the_first_token(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.yaml")
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: file.add_first(), range(AT_ONCE)))
    assert len([secret for secret in made if secret is not None]) == 1
    assert [(token.name, token.scopes) for token in file.tokens()] == [("first", tuple(SCOPES))]


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    link = tmp_path / "tokens.yaml"
    link.symlink_to("kept/real.yaml")
    TokenFile(link).add("a", ["view"])
    assert link.is_symlink()
    assert [token.name for token in read(tmp_path / "kept" / "real.yaml")] == ["a"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["kept", "real.yaml", "tokens.yaml"]


def test_what_a_killed_command_has_left_is_in_nobodys_way(tmp_path: Path) -> None:
    left = tmp_path / ".tokens.yaml.new"
    left.write_text("half of a fi")
    left.chmod(0o666)
    file = TokenFile(tmp_path / "tokens.yaml")
    file.add("a", ["view"])
    assert [path.name for path in tmp_path.iterdir()] == ["tokens.yaml"]
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_a_change_closes_a_file_that_was_open(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.yaml")
    file.add("a", ["view"])
    for mode, is_told in ((0o600, False), (0o640, False), (0o400, False), (0o644, True), (0o660, True), (0o602, True)):
        file.path.chmod(mode)
        line = too_open(file.path)
        assert (line is not None) == is_told, oct(mode)
        if line is not None:
            assert f"chmod 600 {file.path}" in line
    file.add("b", ["view"])
    assert too_open(file.path) is None
    assert too_open(tmp_path / "none.yaml") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_root_leaves_the_file_to_the_user_of_the_server(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "tokens.yaml")
    os.chown(tmp_path, 10_001, 10_002)
    file.add("a", ["view"])
    assert (file.path.stat().st_uid, file.path.stat().st_gid) == (10_001, 10_002)
    os.chown(file.path, 10_003, 10_004)
    file.add("b", ["view"])
    assert (file.path.stat().st_uid, file.path.stat().st_gid) == (10_003, 10_004)


def test_a_folder_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"auth\.tokens: .*/file/tokens\.yaml: cannot be"):
        TokenFile(tmp_path / "file" / "tokens.yaml").add("a", ["view"])
