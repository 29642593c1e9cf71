"""All commands, and the ends that they share.

An error of usage is one line. Ctrl-C ends a command with 130, and a reader of its output that has
gone (``| head``) with 141, as a shell tells both. Neither writes anything.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

import click

from headway.cli.audit import audit
from headway.cli.changes import cancel, change, delete, retry, run_now
from headway.cli.engine import engine
from headway.cli.events import events
from headway.cli.exits import EXIT_INTERRUPTED, EXIT_PIPE_CLOSED, EXIT_USAGE
from headway.cli.hold import close, hold, resume
from headway.cli.init import init
from headway.cli.jobs import payload, result, status, submit, wait
from headway.cli.journal import journal
from headway.cli.listing import list_jobs
from headway.cli.log import log
from headway.cli.output import one_line
from headway.cli.serve import serve
from headway.cli.settings import fail
from headway.cli.simulate import simulate
from headway.cli.tasks import tasks
from headway.cli.token import token
from headway.cli.top import top
from headway.cli.work import work

SECTIONS: dict[str, Sequence[click.Command]] = {
    "Server": (init, serve, work, simulate, journal, engine, token),
    "Jobs": (submit, status, log, wait, result, payload, cancel, retry, delete, change, run_now),
    "Look": (list_jobs, tasks, events, top, audit),
    "Tasks": (hold, close, resume),
}
# Of ``headway`` alone, which prints its help. click 8.1 does so without an error.
NO_COMMAND: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())


class Commands(click.Group):
    """The commands of SECTIONS."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of SECTIONS."""
        return [str(command.name) for commands in SECTIONS.values() for command in commands]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by section."""
        width = max(len(name) for name in self.list_commands(ctx))
        for section, commands in SECTIONS.items():
            with formatter.section(section):
                limit = formatter.width - width - 6
                formatter.write_dl(
                    [(f"{command.name!s:<{width}}", command.get_short_help_str(limit)) for command in commands]
                )

    def make_context(self, *given: Any, **extra: Any) -> click.Context:
        """Read the command line up to the command."""
        try:
            return super().make_context(*given, **extra)
        except click.UsageError as error:
            _fail_in_usage(error)

    def invoke(self, ctx: click.Context) -> Any:
        """Read the rest of the command line, and run the command."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A text may have characters that a terminal of old does not have.
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            try:
                return super().invoke(ctx)
            finally:
                # Now, so that a fault of the output is noticed here. It may be closed (``>&-``).
                if sys.stdout is not None:
                    sys.stdout.flush()
        except click.UsageError as error:
            _fail_in_usage(error)
        except click.FileError as error:
            fail(one_line(error.format_message()), EXIT_USAGE)
        except UnicodeEncodeError as error:
            # Bytes of the command line that are no text, which only a payload and the name of a file may have.
            fail(f"{error.object!a} is not allowed: it is no text in UTF-8", EXIT_USAGE)
        except (KeyboardInterrupt, click.Abort):
            sys.exit(EXIT_INTERRUPTED)
        except BrokenPipeError:
            _give_up_output()
            sys.exit(EXIT_PIPE_CLOSED)
        except OSError as error:
            _give_up_output()
            fail(error, EXIT_USAGE)


def _give_up_output() -> None:
    """Keep Python from writing the rest of the output at its end."""
    if sys.stdout is not None:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail_in_usage(error: click.UsageError) -> NoReturn:
    """Print an error of usage in one line, and end."""
    if isinstance(error, NO_COMMAND):
        raise error
    path = error.ctx.command_path if error.ctx else "headway"
    fail(f"{error.format_message().rstrip('.')}: see {path} --help", EXIT_USAGE)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="headway", message="%(prog)s %(version)s")
def main() -> None:
    """Headway, a job server: POST a job, get 202 and a URL, read its state off a HEAD."""


for _commands in SECTIONS.values():
    for _command in _commands:
        main.add_command(_command)


def server() -> None:
    """Run ``headway serve``, as the executable tmp/headway-server."""
    serve(prog_name="headway-server")


def clients() -> None:
    """Run ``headway simulate``, as the executable tmp/headway-clients."""
    simulate(prog_name="headway-clients")
