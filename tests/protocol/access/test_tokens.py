"""The file of tokens."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from headway.core.errors import ConfigError
from headway.protocol.access.scopes import ADMIN, CANCEL, READ, SUBMIT, VIEW
from headway.protocol.access.tokens import Token, Tokens, emptied, make, read, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.yaml"


def added(path: Path, name: str, *scopes: str) -> bytes:
    secret, token = make(name, scopes)
    write(path, [*read(path), token])
    return secret.encode()


def test_a_token_is_known_by_its_hash_alone(path: Path) -> None:
    secret = added(path, "shop", SUBMIT, READ)
    assert secret.startswith(b"hw_")
    assert secret not in path.read_bytes()
    assert secret[3:] not in path.read_bytes()
    caller = Tokens(path, ids_tell=True).caller(secret)
    assert caller is not None
    # Who reads all may see states and counts, too.
    assert (caller.name, caller.scopes, caller.tasks) == ("shop", frozenset({SUBMIT, READ, VIEW}), None)


@pytest.mark.parametrize("wrong", [b"", b"hw_", b"x", b"\xff\x00", b"hw_" + b"a" * 43])
def test_nobody_has_another_token(path: Path, wrong: bytes) -> None:
    secret = added(path, "shop", SUBMIT)
    tokens = Tokens(path, ids_tell=True)
    for other in (wrong, secret[:-1], secret + b"a", secret.upper(), secret.swapcase()):
        assert tokens.caller(other) is None


def test_two_tokens_of_a_name_are_valid_at_a_time(path: Path) -> None:
    old, new = added(path, "shop", SUBMIT), added(path, "shop", SUBMIT)
    tokens = Tokens(path, ids_tell=True)
    assert old != new
    assert {caller.name for secret in (old, new) if (caller := tokens.caller(secret))} == {"shop"}


def test_a_token_may_be_for_some_tasks(path: Path) -> None:
    some, all_ = added(path, "some", "submit:report", "submit:mail", CANCEL), added(path, "all", "submit:mail", SUBMIT)
    tokens = Tokens(path, ids_tell=True)
    assert {caller.name: caller.tasks for secret in (some, all_) if (caller := tokens.caller(secret))} == {
        "some": {"report", "mail"},
        "all": None,
    }


@pytest.mark.parametrize(
    ("scope", "ids_tell", "sees"), [(VIEW, True, False), (VIEW, False, True), (READ, True, True), (READ, False, True)]
)
def test_who_may_only_view_sees_no_ids_where_an_id_is_enough_to_read(
    path: Path, scope: str, ids_tell: bool, sees: bool
) -> None:
    secret = added(path, "screen", scope)
    caller = Tokens(path, ids_tell=ids_tell).caller(secret)
    assert caller is not None
    assert caller.sees_ids is sees


def test_a_change_of_the_file_counts_once_it_was_read_again(path: Path) -> None:
    first = added(path, "first", ADMIN)
    tokens = Tokens(path, ids_tell=True)
    assert not tokens.reread()
    second = added(path, "second", ADMIN)
    assert tokens.caller(second) is None
    assert tokens.reread()
    assert tokens.caller(first)
    assert tokens.caller(second)
    write(path, [token for token in read(path) if token.name == "second"])
    assert tokens.reread()
    assert tokens.caller(first) is None


def test_a_file_of_the_same_length_is_read_again_if_it_is_newer_or_another(path: Path) -> None:
    """As after a rotation: a copy may keep the time, and an editor the file."""
    secret = added(path, "shop", ADMIN)
    tokens = Tokens(path, ids_tell=True)
    before = path.stat()
    for seconds, replaces in ((0, True), (1, False)):
        newer, token = make("shop", [ADMIN])
        other = path.with_name("other")
        write(other, [token])
        if replaces:
            other.replace(path)
        else:
            path.write_bytes(other.read_bytes())
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + seconds * 10**9))
        assert path.stat().st_size == before.st_size
        assert tokens.reread()
        assert tokens.caller(secret) is None
        assert tokens.caller(newer.encode())
        secret = newer.encode()


def test_a_server_that_had_tokens_goes_on_asking_for_one(path: Path) -> None:
    secret = added(path, "shop", ADMIN)
    tokens = Tokens(path, ids_tell=True)
    path.unlink()
    assert tokens.reread()
    assert tokens
    assert tokens.caller(secret) is None


def test_a_file_that_cannot_be_used_leaves_the_tokens_as_they_were(path: Path) -> None:
    secret = added(path, "shop", ADMIN)
    tokens = Tokens(path, ids_tell=True)
    path.write_text("- name: shop\n")
    with pytest.raises(ConfigError):
        tokens.reread()
    assert tokens.caller(secret)


def test_only_its_owner_may_read_the_file(path: Path) -> None:
    added(path, "shop", ADMIN)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


GOOD = "- {name: a, sha256: %s, scopes: [submit]}" % ("f" * 64)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("- {name: a}", "missing required field `sha256`"),
        (GOOD.replace("submit", "sumbit"), "no scope 'sumbit'. There are submit, read, view"),
        (GOOD.replace("submit", "read:report"), "no scope 'read:report'"),
        (GOOD.replace("submit", "'submit:'"), "no scope 'submit:'"),
        (GOOD.replace("[submit]", "[]"), "scopes"),
        (GOOD.replace("name: a", "name: a b"), "name"),
        (GOOD.replace("f" * 64, "f00"), "sha256"),
        (GOOD.replace("name", "nane"), "nane"),
        (f"{GOOD}\n{GOOD}", "its hash stands twice"),
        ("\n".join(GOOD.replace("f" * 64, digit * 64) for digit in "abc"), "there are 3 of this name"),
        ("a: b", "array"),
        ("[", "tokens.yaml"),
        ("\x00", "tokens.yaml"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(path: Path, text: str, fault: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"auth\.tokens: ") as error:
        read(path)
    assert fault in str(error.value)
    assert "\n" not in str(error.value)


def test_no_file_and_an_empty_one_have_no_tokens(path: Path) -> None:
    assert read(path) == []
    for text in ("", "# A comment alone.\n", "[]"):
        path.write_text(text)
        assert read(path) == []
    assert not Tokens(path, ids_tell=True)


def test_a_pipe_is_no_file_and_nobody_waits_for_it(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(ConfigError) as error:
        read(path)
    assert str(error.value) == f"auth.tokens: {path}: cannot be read: it is no regular file"


def test_a_file_without_a_token_is_told_and_no_file_is_not(path: Path) -> None:
    assert emptied(path) is None
    path.write_text("[]")
    assert emptied(path) == (
        f"auth.tokens: {path} has no token, so everyone on this machine is let in: make one with headway token add, "
        "or remove the file"
    )
    added(path, "shop", ADMIN)
    assert emptied(path) is None


def test_what_is_written_is_read(path: Path) -> None:
    tokens = [
        Token("a.b-c_1", "0" * 64, ("submit:a:b", "read"), "2026-11-29T15:00:00Z"),
        Token("b", "1" * 64, ("view",)),
    ]
    write(path, tokens)
    assert read(path) == tokens
