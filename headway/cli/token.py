"""The command line: ``headway token``.

Exit codes: 0, 1 if the tokens of the file do not allow the change, 2 for wrong usage, wrong settings, and for a
file that cannot be read or written.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from headway.cli.exits import EXIT_USAGE, EXIT_WRONG
from headway.cli.output import say_json, say_table
from headway.cli.settings import fail, named_file, settings

if TYPE_CHECKING:
    from headway.protocol.access.token_file import TokenFile

Command = TypeVar("Command", bound=Callable[..., None])

ALL = "all"
# Digits of a hash that tell tokens of one name apart, and are of no use to anyone else.
SHOWN = 8

NAME = click.argument("name")
CONFIG = click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path),
    default=named_file,
    help="Settings of the server, YAML.  [default: headway.yaml or config.yaml if there is one]",
)


@click.group()
def token() -> None:
    """Make, list, replace and remove the tokens by which a server knows its clients.

    They are in the file auth.tokens of the settings, by their hashes. A server that runs goes by a change within
    a second. See docs/security.md.
    """


@token.command()
@NAME
@click.option(
    "--scope",
    "scopes",
    metavar="SCOPE,…",
    multiple=True,
    required=True,
    help="What it may do: headway token scopes lists them. May be repeated.",
)
@CONFIG
def add(name: str, scopes: Sequence[str], config: Path | None) -> None:
    """Make a token, and write it to standard output. It is shown this once."""
    with _file(config) as file:
        from headway.protocol.access.tokens import check_scopes

        wanted = _scopes(scopes)
        check_scopes(wanted, "--scope")
        _show(file, file.add(name, wanted))
        _say(f"added {name} to {file.path.absolute()}, with the scopes {', '.join(wanted)}")
        if len(file.tokens()) == 1:
            _say("it is the first one: from now on clients need a token")


@token.command("list")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@CONFIG
def list_tokens(as_json: bool, config: Path | None) -> None:
    """List the tokens: name, scopes, time, and the begin of the hash."""
    with _file(config) as file:
        found = [(token.name, token.scopes, token.created, token.sha256[:SHOWN]) for token in file.tokens()]
    if as_json:
        for name, scopes, created, sha256 in found:
            say_json({"name": name, "scopes": scopes, "created": created or None, "sha256": sha256})
    elif found:
        rows = [(name, ",".join(scopes), created or "-", sha256) for name, scopes, created, sha256 in found]
        say_table([("NAME", "SCOPES", "CREATED", "SHA256"), *rows])
    else:
        _say(f"there are no tokens in {file.path.absolute()}: headway token add makes one")


@token.command()
@NAME
@CONFIG
def rotate(name: str, config: Path | None) -> None:
    """Make the successor of a token, and write it to standard output. It is shown this once.

    It has the same scopes. The old one stays valid until headway token remove NAME --older.
    """
    with _file(config) as file:
        _show(file, file.rotate(name))
        _say(f"both tokens {name} are valid: headway token remove {name} --older, once no client has the old one")


@token.command()
@NAME
@click.option("--older", is_flag=True, help="Of two tokens of this name the older one alone.")
@CONFIG
def remove(name: str, older: bool, config: Path | None) -> None:
    """Remove a token. A server that runs refuses it within a second."""
    with _file(config) as file:
        removed = file.remove(name, older=older)
        kind = "the older token" if older else "the token" if removed == 1 else f"{removed} tokens"
        _say(f"removed {kind} {name} from {file.path.absolute()}")
        if not file.tokens():
            _say("it was the last one: a server that runs lets nobody in, until a new start asks nobody for a token")


@token.command("scopes")
def list_scopes() -> None:
    """List the scopes, and what a token with each may do."""
    from headway.protocol.access.scopes import SCOPES

    say_table([("SCOPE", "MAY"), *SCOPES.items(), (ALL, "all of this: add writes them out")])


def _scopes(given: Sequence[str]) -> tuple[str, ...]:
    """Return the scopes that the options name, each once."""
    from headway.protocol.access.scopes import SCOPES

    named = (scope.strip() for text in given for scope in text.split(","))
    wanted = (scope for name in named for scope in (SCOPES if name == ALL else (name,)))
    return tuple(dict.fromkeys(wanted))


@contextmanager
def _file(config: Path | None) -> Iterator[TokenFile]:
    """Return the file that the settings name. End with one line if it cannot be used."""
    auth = settings(config).auth
    from headway.core.errors import ConfigError
    from headway.protocol.access.token_file import TokenError, TokenFile

    try:
        yield TokenFile(auth.file(os.environ))
    except TokenError as error:
        fail(error, EXIT_WRONG)
    except ConfigError as error:
        fail(error, EXIT_USAGE)
    if auth.mode == "none":
        _say("the settings have auth: none, so nobody is asked for a token")


def _show(file: TokenFile, secret: str) -> None:
    """Write a new token to standard output. One that cannot be written is taken back: nobody has it."""
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, "standard output is closed, so the token could not be written")
        click.echo(secret)
        sys.stdout.flush()
    except OSError:
        file.take_back(secret)
        raise


def _say(line: str) -> None:
    """Write words for people. Standard output has the token alone."""
    click.echo(f"headway: {line}", err=True)
