"""The server that a command asks: its address, its answers, and the exit code for each error.

A command that only asks, or submits, gives up after a second or two. One that waits goes on through
a restart or a deploy, and says so. ``--patience`` sets both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from headway.cli.exits import EXIT_REFUSED, EXIT_TIMED_OUT, EXIT_UNKNOWN, EXIT_UNREACHABLE, EXIT_USAGE
from headway.cli.output import one_line
from headway.cli.settings import fail, named_address, usual_address, with_scheme
from headway.cli.times import TimeSpan

if TYPE_CHECKING:
    from headway.client import AsyncClient, Client, HeadwayError

Command = TypeVar("Command", bound=Callable[..., Any])


# By the state of a job.
EXITS = {"succeeded": 0, "failed": 1, "cancelled": 3, "expired": 3}
EPILOG = """Exit codes: 0 succeeded, 1 failed, 2 usage, 3 cancelled or expired, 4 unknown id, 5 refused, 6 server
unreachable or full, 124 timed out, 130 Ctrl-C. Of several jobs, the lowest code other than 0."""

# Seconds in which a request is repeated: of a command that waits, and of others.
PATIENCE_WAITING_S = 30.0
PATIENCE_S = 2.0

URL = click.option(
    "--url", metavar="URL", help="The server.  [default: HEADWAY_URL, else where `server:` of the settings listens]"
)
JSON = click.option("--json", "as_json", is_flag=True, help="Write JSON.")
SECONDS = TimeSpan()
PATIENCE = click.option(
    "--patience",
    type=SECONDS,
    metavar="TIME",
    help=f"How long to repeat a request without a useful answer.  [default: {PATIENCE_S:g}, waiting "
    f"{PATIENCE_WAITING_S:g}]",
)


def asks(command: Command) -> Command:
    """Add the options that each command has that asks a server."""
    return JSON(URL(PATIENCE(command)))


def client(url: str | None, patience: float | None, *, waits: bool = False) -> Client:
    """Return a client of the server, for one thread. One that ``waits`` has more patience."""
    from headway.client import Client

    if patience is None:
        patience = PATIENCE_WAITING_S if waits else PATIENCE_S
    _tell_of_tries(patience)
    with usage():
        return Client(_address(url), patience=patience)


def waiting_client(url: str | None, patience: float | None) -> AsyncClient:
    """Return a client of the server, for asyncio, of a command that waits."""
    from headway.client import AsyncClient

    patience = PATIENCE_WAITING_S if patience is None else patience
    _tell_of_tries(patience)
    with usage():
        return AsyncClient(_address(url), patience=patience)


def _address(url: str | None) -> str | None:
    """Return the address of the server, None for the one that the client has by itself."""
    return with_scheme(url) if url else named_address() or usual_address()


def _tell_of_tries(patience: float) -> None:
    """Write the client's warning that it tries again, unless it ends soon anyway."""
    # 10 ms, which ``--help`` does not need.
    from headway.cli import tries

    tries.tell(patience > PATIENCE_S)


@contextmanager
def usage() -> Iterator[None]:
    """Turn a ValueError, for instance of an id that is none, into an error of usage."""
    try:
        yield
    except ValueError as error:
        fail(one_line(str(error)), EXIT_USAGE)


@contextmanager
def errors() -> Iterator[None]:
    """Print an error of the client in one line, and end with its code."""
    from headway.client import HeadwayError

    try:
        yield
    except HeadwayError as error:
        end(error)


def end(error: HeadwayError) -> NoReturn:
    """Print an error of the client in one line, and end with its code."""
    fail(text_of(error), code_of(error))


def code_of(error: HeadwayError) -> int:
    """Return the exit code for an error."""
    from headway import client

    codes = {
        client.JobFailed: EXITS["failed"],
        client.JobCancelled: EXITS["cancelled"],
        client.JobExpired: EXITS["expired"],
        client.NotIssued: EXIT_UNKNOWN,
        client.Refused: EXIT_REFUSED,
        client.TimedOut: EXIT_TIMED_OUT,
    }
    return codes.get(type(error), EXIT_UNREACHABLE)


def text_of(error: HeadwayError) -> str:
    """Return an error in one line, with a hint."""
    from headway import client

    hints = {
        client.NotIssued: "Check the id and --url",
        client.Unavailable: "Is a server there? Start one with headway serve, or check --url",
        client.TaskClosed: "headway tasks shows which tasks are closed, and headway resume opens one",
        client.QueueFull: "Try again later, or with a longer --patience",
    }
    hint = hints.get(type(error), "")
    if isinstance(error, client.Refused) and error.reason == "unknown-task":
        hint = "headway tasks lists the tasks of the server"
    if isinstance(error, client.Unavailable) and error.code is not None:
        hint = hints[client.QueueFull]
    text = str(error).removesuffix(".")
    # One that asks something has a hint of its own.
    return one_line(f"{text}. {hint}" if hint and not text.endswith("?") else str(error))


def document(client: Client, path: str, *, member: str) -> dict[str, Any]:
    """GET a document that has a ``member``. Raises HeadwayError if the answer is none."""
    from headway.client import answers
    from headway.client.exchange import Send

    response = client.run(client.roads.exchange(Send("GET", path)))
    members = answers.document(response)
    if response.code != 200 or member not in members:
        raise answers.error(response, f"GET {path.partition('?')[0]}")
    return members
