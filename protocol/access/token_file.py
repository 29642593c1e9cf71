"""Changes of the file of tokens, one at a time.

Each reads the file, changes the list and replaces the file, under a lock on its folder. So two commands, or a
command and a server that makes its first token, lose nothing of each other. The system gives the lock up at the
end of a process, however it ends. Readers need no lock, because they see the old file or the new one.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from headway.core.errors import ConfigError, HeadwayError
from headway.protocol.access.scopes import SCOPES
from headway.protocol.access.tokens import NAME, NAMES, ROTATING, Token, digest, make, read, write

# The name of the token that a server makes by itself.
FIRST = "first"


class TokenError(HeadwayError):
    """The tokens in the file do not allow the change. The line says what to do."""


class TokenFile:
    """The file at ``path``, which need not exist. Its folder must.

    Each change raises ConfigError if the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def tokens(self) -> list[Token]:
        """Return the tokens, of one name the older first. Raises ConfigError if they cannot be read."""
        return read(self.path)

    def add(self, name: str, scopes: Sequence[str]) -> str:
        """Return a new token of a new name. Raises TokenError, and ConfigError for a name that is none."""
        if not re.match(NAME, name):
            raise ConfigError(f"{name!r} is not allowed as a name: expected {NAMES}")
        with self._changing() as tokens:
            if _of(tokens, name):
                raise TokenError(f"there is a token {name} already: headway token rotate {name} makes its successor")
            secret, token = make(name, scopes)
            tokens.append(token)
        return secret

    def add_first(self) -> str | None:
        """Return a new token with all scopes, None if there are tokens."""
        with self._changing() as tokens:
            if tokens:
                return None
            secret, token = make(FIRST, tuple(SCOPES))
            tokens.append(token)
        return secret

    def rotate(self, name: str) -> str:
        """Return the successor of a token, with its scopes. Both are valid. Raises TokenError."""
        with self._changing() as tokens:
            found = self._found(tokens, name)
            if len(found) >= ROTATING:
                raise TokenError(f"there are {len(found)} tokens {name} already: headway token remove {name} --older")
            secret, token = make(name, found[-1].scopes)
            tokens.append(token)
        return secret

    def take_back(self, secret: str) -> None:
        """Remove a token that nobody could be told."""
        with self._changing() as tokens:
            tokens[:] = [token for token in tokens if token.sha256 != digest(secret)]

    def remove(self, name: str, *, older: bool = False) -> int:
        """Remove the tokens of a name, or all ``older`` than the last one. Return how many. Raises TokenError."""
        with self._changing() as tokens:
            found = self._found(tokens, name)
            if older and len(found) == 1:
                raise TokenError(f"there is one token {name}, and none older: leave out --older to remove it")
            gone = found[:-1] if older else found
            tokens[:] = [token for token in tokens if token not in gone]
        return len(gone)

    def _found(self, tokens: Sequence[Token], name: str) -> list[Token]:
        found = _of(tokens, name)
        if not found:
            raise TokenError(f"there is no token {name!r} in {self.path}: headway token list shows them")
        return found

    @contextmanager
    def _changing(self) -> Iterator[list[Token]]:
        """Yield the tokens, and write them at the end of the block unless it raises, or has changed nothing."""
        try:
            # Where a link leads to.
            folder = os.open(self.path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self._unwritten(error) from None
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            before = read(self.path)
            tokens = list(before)
            yield tokens
            if tokens != before:
                write(self.path, tokens)
                os.fsync(folder)
        except OSError as error:
            raise self._unwritten(error) from None
        finally:
            os.close(folder)

    def _unwritten(self, error: OSError) -> ConfigError:
        return ConfigError(f"auth.tokens: {self.path}: cannot be written: {error.strerror}")


def _of(tokens: Sequence[Token], name: str) -> list[Token]:
    return [token for token in tokens if token.name == name]
