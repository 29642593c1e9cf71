"""The tokens of a server: a file with their hashes, read again when it has changed.

The file is a list in YAML, one item a token, written by ``headway token``:

    - name: shop
      sha256: 5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8
      scopes: [submit:report, view]
      created: 2026-11-29T15:00:00Z

A name may stand twice, with an old and a new token, so that clients change from one to the other.
A token has 256 random bits, so a plain hash of it tells nothing (NIST SP 800-63B, 5.1.1.2 asks for a slow
one for secrets that people choose).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
from headway.core.errors import ConfigError
from headway.core.files import content
from headway.protocol.access.scopes import READ, SCOPES, SUBMIT, VIEW
from headway.protocol.http.caller import Caller
from msgspec import Meta

# What a token begins with, so that scanners of source code know one.
PREFIX = "hw_"
SECRET_BYTES = 32
# The most tokens of one name.
ROTATING = 2
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z"
NAMES = "1 to 64 of the characters A-Z a-z 0-9 . _ -, the first one a letter or a digit"
HEADER = """\
# Tokens of Headway, by hash. `headway token` writes this file, and drops any other comment in it.
# A server reads it again within a second.
"""
# Permissions that a file of tokens should not give: writing to its group, anything to others.
TOO_OPEN = 0o027


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A token in the file, by its hash."""

    name: Annotated[str, Meta(pattern=NAME, description=NAMES)]
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z", description="64 hex digits")]
    scopes: Annotated[tuple[str, ...], Meta(min_length=1)]
    created: str = ""


class Tokens:
    """The tokens of the file at ``path``, by hash. ``ids_tell``: who has an id may read and cancel its job."""

    def __init__(self, path: Path, *, ids_tell: bool) -> None:
        self.path = path
        self._ids_tell = ids_tell
        self._stamp = _stamp(path)
        self._callers = self._read()
        # A server that had tokens goes on asking for one: a file that is gone lets nobody in.
        self._asks = bool(self._callers)

    def __bool__(self) -> bool:
        return self._asks

    @property
    def count(self) -> int:
        """Tokens in the file."""
        return len(self._callers)

    def caller(self, token: bytes) -> Caller | None:
        """Return the bearer of ``token``, None if nobody has it."""
        digest = hashlib.sha256(token).hexdigest()
        # Where the dict looks depends on the hash, of which a client controls nothing bit by bit.
        found = self._callers.get(digest)
        return found[1] if found is not None and hmac.compare_digest(found[0], digest) else None

    def reread(self) -> bool:
        """Read the file again if it has changed. Return whether it had.

        Raises ConfigError if it cannot be used: then the tokens stay as they are.
        """
        stamp = _stamp(self.path)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        self._callers = self._read()
        self._asks = self._asks or bool(self._callers)
        return True

    def _read(self) -> dict[str, tuple[str, Caller]]:
        return {token.sha256: (token.sha256, self._caller(token)) for token in read(self.path)}

    def _caller(self, token: Token) -> Caller:
        names = {scope.partition(":")[0] for scope in token.scopes}
        if READ in names:
            names.add(VIEW)
        tasks = None if SUBMIT in token.scopes else frozenset(task for task in map(_task, token.scopes) if task)
        return Caller(token.name, frozenset(names), tasks, sees_ids=READ in names or not self._ids_tell)


def read(path: Path) -> list[Token]:
    """Return the tokens of a file, none if there is no file. Raises ConfigError, one line."""
    try:
        text = content(path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ConfigError(f"auth.tokens: {path}: cannot be read: {error.strerror}") from None
    try:
        # A file of comments alone is null.
        tokens = msgspec.yaml.decode(text or b"[]", type=list[Token] | None) or []
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"auth.tokens: {path}: {' '.join(str(error).split())}") from None
    hashes, names = Counter(token.sha256 for token in tokens), Counter(token.name for token in tokens)
    for token in tokens:
        what = f"auth.tokens: {path}: the token {token.name!r}"
        check_scopes(token.scopes, what)
        if hashes[token.sha256] > 1:
            raise ConfigError(f"{what}: its hash stands twice: take one out")
        if names[token.name] > ROTATING:
            raise ConfigError(f"{what}: there are {names[token.name]} of this name, and {ROTATING} at most are allowed")
    return tokens


def check_scopes(scopes: Iterable[str], what: str) -> None:
    """Raise ConfigError, which begins with ``what``, for a scope that there is not."""
    for scope in scopes:
        name, colon, task = scope.partition(":")
        if name not in SCOPES or (colon and (name != SUBMIT or not task)):
            allowed = ", ".join(SCOPES)
            raise ConfigError(f"{what}: no scope {scope!r}. There are {allowed}, and submit:TASK for one task")


def make(name: str, scopes: Sequence[str]) -> tuple[str, Token]:
    """Return a new token, and what a file has of it."""
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return secret, Token(name, digest(secret), tuple(scopes), now)


def digest(secret: str) -> str:
    """Return the hash by which the file knows a token."""
    return hashlib.sha256(secret.encode()).hexdigest()


def write(path: Path, tokens: Sequence[Token]) -> None:
    """Replace the file at ``path``, at once and whole. Only its owner may read it. Raises OSError.

    One at a time: see token_file.
    """
    # A link stays one.
    path = path.resolve()
    beside = path.with_name(f".{path.name}.new")
    # Of a process that was killed here.
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if os.geteuid() == 0:
                # The server may run as another user, who has the file, or else its folder.
                owner = (path if path.exists() else path.parent).stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            file.write(HEADER.encode() + msgspec.yaml.encode(list(tokens)))
            file.flush()
            os.fsync(descriptor)
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def too_open(path: Path) -> str | None:
    """Return a line if users of the machine other than the owner can read or change the file, else None."""
    try:
        mode = path.stat().st_mode & 0o777
    except OSError:
        return None
    if not mode & TOO_OPEN:
        return None
    return f"auth.tokens: {path} has mode {mode:04o}, so other users can read or change it: chmod 600 {path}"


def emptied(path: Path) -> str | None:
    """Return a line if the file at ``path`` is there and has no token, else None. One with a fault has some."""
    try:
        if not path.exists() or read(path):
            return None
    except ConfigError:
        return None
    return (
        f"auth.tokens: {path} has no token, so everyone on this machine is let in: make one with headway token add, "
        "or remove the file"
    )


def _task(scope: str) -> str:
    return scope.partition(":")[2]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
