"""The command line: ``headway`` and ``python -m headway``.

A command imports its own half of the program when it runs: a server needs no simulation, and ``--help`` neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from headway.init import init
from headway.journal import journal
from headway.settings import EXIT_CONFIG, fail, left_out, named_file, settings
from headway.sim.command import command

if TYPE_CHECKING:
    from headway.core.config import Config


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="headway", message="%(prog)s %(version)s")
def main() -> None:
    """Headway, a job server: POST a job, get 202 and a URL, read its state off a HEAD."""


@main.command()
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path),
    default=named_file,
    help="Settings, YAML.  [default: headway.yaml or config.yaml if there is one]",
)
@click.option("--tasks", metavar="MODULE,…", multiple=True, help="Modules with tasks. May be repeated.")
@click.option("--host", help="The address to listen on.  [default: 127.0.0.1]")
@click.option("--port", help="The port, 0 for a free one.  [default: 8080]")
@click.option("--workers", help="How many jobs run at the same time.  [default: 32]")
@click.option("--check", is_flag=True, help="Check settings, task modules, journal and port. Print the faults. End.")
def serve(file: Path | None, check: bool, tasks: Sequence[str], **given: str | None) -> None:
    """Serve jobs over HTTP until SIGTERM or SIGINT. SIGHUP deploys new code and settings.

    An option overrides the file. Each setting can also be given as a variable, for instance
    HEADWAY_SERVER__PORT=9001 or HEADWAY_LOG__LEVEL=debug.
    """
    options = {"--tasks": tasks} | {f"--{name}": [text] for name, text in given.items() if text is not None}
    config = settings(file, options)
    remark = left_out(file)
    if check:
        _check(config, remark)
        return
    from headway.core.errors import ConfigError, JournalError
    from headway.protocol import server as http

    try:
        http.run(config, remark)
    except ConfigError as error:
        fail(error, EXIT_CONFIG)
    except JournalError as error:
        fail(error, http.EXIT_JOURNAL)


def _check(config: Config, remark: str | None) -> None:
    """Print each fault, or each remark if there is none. End with EXIT_CONFIG after a fault."""
    from headway.protocol import check
    from headway.protocol.process import signals

    wrong = list(check.faults(config))
    for line in wrong or filter(None, [remark, *check.remarks(config)]):
        click.echo(f"headway: {line}", err=True)
    if not wrong:
        click.echo("the configuration is good")
    # Neither atexit handlers of task modules nor threads that they have started may delay the end
    # without limit.
    signals.leave(lambda: signals.end(EXIT_CONFIG if wrong else 0))


def _simulation(file: Path | None) -> Mapping[str, object]:
    """Return the settings of ``simulation:``, with the URL of the server that the settings describe."""
    import msgspec

    config = settings(file)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.server.host, config.server.host)  # noqa: S104
    url = f"http://[{host}]:{config.server.port}" if ":" in host else f"http://{host}:{config.server.port}"
    simulation: dict[str, object] = msgspec.to_builtins(config.simulation)
    return simulation | {"url": config.simulation.url or url + config.http.base}


main.add_command(command(_simulation))
main.add_command(init)
main.add_command(journal)


def server() -> None:
    """Run ``headway serve``, as the executable tmp/headway-server."""
    serve(prog_name="headway-server")


def clients() -> None:
    """Run ``headway simulate``, as the executable tmp/headway-clients."""
    main.commands["simulate"](prog_name="headway-clients")


if __name__ == "__main__":
    main(prog_name="headway")
