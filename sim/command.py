"""The command line: ``headway simulate``.

Exit codes: 0, the run went to its end, or to Ctrl-C, without errors; 1, there were errors, or it could not go on; 2, a
setting cannot be used. A second Ctrl-C ends at once with 130.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import click

EXIT_ERRORS = 1
EXIT_SETTINGS = 2

HELP = """Put a crowd of clients on a server: each creates jobs, polls them until all are over, and starts over.

Ctrl-C ends with the summary. Exit code 0 without errors, 1 with some or where the run could not go on, 2 where a
setting cannot be used. What is not given here is as `simulation:` in config.yaml says."""

OPTIONS = (
    click.Option(["--url"], metavar="URL", help="The server.  [default: where `server:` listens]"),
    click.Option(["--clients"], type=int, help="How many at once."),
    click.Option(["--jobs"], type=int, help="How many jobs each has at a time."),
    click.Option(["--poll"], metavar="POLICY", help="An interval (1s, 250ms), or when-told: as Retry-After says."),
    click.Option(["--duration"], metavar="TIME", help="How long, for instance 60s or 5m; 0 for no end."),
    click.Option(["--spread"], metavar="TIME", help="Within what time the clients come."),
    click.Option(["--connections"], type=int, help="Share so many connections; 0 for one each."),
    click.Option(["--task"], metavar="NAME", help="The task of the jobs."),
    click.Option(["--payload"], metavar="JSON", help="Their payload, instead of seconds."),
    click.Option(["--job-seconds"], metavar="A-B", help='The payload is {"seconds": x}, x from A to B.'),
    click.Option(["--timeout"], metavar="TIME", help="For a connection, and for an answer."),
    click.Option(["--patience"], metavar="TIME", help="How long to bear nothing but errors."),
    click.Option(["--json"], type=click.Path(path_type=Path, dir_okay=False), help="Write the results there."),
    click.Option(["--config"], type=click.Path(path_type=Path), help="Settings, YAML.  [default: config.yaml]"),
)


def command(defaults: Callable[[Path | None], Mapping[str, object]]) -> click.Command:
    """Return the command; ``defaults`` reads the settings from a file, or from the usual one."""

    def simulate(config: Path | None, json: Path | None, **given: object) -> None:
        given = {name: value for name, value in given.items() if value is not None}
        sys.exit(run({**defaults(config), **given}, json))

    return click.Command("simulate", callback=simulate, params=list(OPTIONS), help=HELP)


def run(given: Mapping[str, object], json: Path | None) -> int:
    """Run with the settings ``given``, write the results to ``json``, and return the exit code."""
    import uvloop
    from headway.sim import files, report, view
    from headway.sim.crowd import Crowd, Ending
    from headway.sim.figures import Figures
    from headway.sim.run import Run
    from headway.sim.settings import Settings, SettingsError, read

    async def simulate(settings: Settings) -> tuple[Figures, Ending]:
        run = Run(settings)
        with view.view(sys.stdout, settings) as shown:
            ending = await Crowd(run).run(shown.show)
        return run.figures, ending

    try:
        settings = read(given)
        files.allow(settings.links)
        _check_writable(json)
        began = datetime.now(UTC).isoformat(timespec="seconds")
        figures, ending = uvloop.run(simulate(settings))
    except SettingsError as error:
        click.echo(f"headway simulate: {error}", err=True)
        return EXIT_SETTINGS
    if figures.requests:
        click.echo(report.summary(settings, figures, ending))
    if json is not None:
        report.write(json, report.document(settings, figures, ending, began))
    if ending.problem is not None:
        click.echo(f"headway simulate: {ending.problem}", err=True)
    return EXIT_ERRORS if ending.problem is not None or figures.errors else 0


def _check_writable(path: Path | None) -> None:
    """Raise SettingsError where results could not be written at the end."""
    from headway.sim.settings import SettingsError

    if path is not None:
        try:
            path.touch()
        except OSError as error:
            raise SettingsError(f"json: {str(path)!r} cannot be written: {error.strerror}") from None
