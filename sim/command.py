"""The command line: ``headway simulate``.

The exit code is 0 if the run went to its end, or to Ctrl-C, without errors. It is 1 if there were
errors, or if the run could not go on, and 2 if a setting cannot be used. A second Ctrl-C ends at
once with 130.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import click

EXIT_ERRORS = 1
EXIT_SETTINGS = 2

HELP = """Put a crowd of clients on a server. Each creates jobs, polls them until all have finished, and starts over.

Ctrl-C ends with the summary. The exit code is 0 without errors, 1 with errors or if the run could not go on, 2 if a
setting cannot be used. Options that are not given here are as in `simulation:` of the settings."""

POLL = """An interval (1s, 250ms), when-told (as Retry-After-Ms and Retry-After say), retry-after (by whole seconds),
wait (until the job has finished), batch or batch-told (all jobs of a client as one, by waiting or when told)."""

OPTIONS = (
    click.Option(["--url"], metavar="URL", help="The server.  [default: HEADWAY_URL, else where `server:` listens]"),
    click.Option(["--clients"], type=int, help="How many at once."),
    click.Option(["--jobs"], type=int, help="How many jobs each has at a time."),
    click.Option(["--poll"], metavar="POLICY", help=POLL),
    click.Option(["--duration"], metavar="TIME", help="How long, for instance 60s or 5m, 0 for no end."),
    click.Option(["--spread"], metavar="TIME", help="The time within which the clients come."),
    click.Option(["--connections"], type=int, help="Share so many connections, 0 for one each (wait: one a job)."),
    click.Option(["--task"], metavar="NAME", help="The task of the jobs."),
    click.Option(["--payload"], metavar="JSON", help="Their payload, instead of seconds."),
    click.Option(["--job-seconds"], metavar="A-B", help='The payload is {"seconds": x}, x from A to B.'),
    click.Option(["--timeout"], metavar="TIME", help="For a connection, and for an answer."),
    click.Option(["--patience"], metavar="TIME", help="How long to go on with nothing but errors."),
    click.Option(["--json"], type=click.Path(path_type=Path, dir_okay=False), help="Write the results there."),
    click.Option(
        ["--trace"], type=click.Path(path_type=Path, dir_okay=False), help="Write a line there for each answer."
    ),
    click.Option(
        ["--config"], type=click.Path(path_type=Path), help="Settings, YAML.  [default: headway.yaml or config.yaml]"
    ),
)


def command(defaults: Callable[[Path | None], Mapping[str, object]]) -> click.Command:
    """Return the command. ``defaults`` reads the settings from a file, or from the usual one."""

    def simulate(config: Path | None, json: Path | None, trace: Path | None, **given: object) -> None:
        given = {name: value for name, value in given.items() if value is not None}
        sys.exit(run({**defaults(config), **given}, json, trace))

    return click.Command("simulate", callback=simulate, params=list(OPTIONS), help=HELP)


def run(given: Mapping[str, object], json: Path | None, trace: Path | None = None) -> int:
    """Run with the settings ``given``, write results to ``json`` and answers to ``trace``, and return the exit code."""
    import uvloop
    from headway.sim import files, report, view
    from headway.sim.crowd import Crowd, Ending
    from headway.sim.run import Run
    from headway.sim.settings import SettingsError, read
    from headway.sim.trace import Trace

    async def simulate(run: Run) -> Ending:
        with view.view(sys.stdout, run.settings) as shown:
            return await Crowd(run).run(shown.show)

    try:
        run = Run(read(given))
        settings, figures = run.settings, run.figures
        files.allow(run.links)
        _check_writable("trace", trace)
        _check_writable("json", json)
        began = datetime.now(UTC).isoformat(timespec="seconds")
        with Trace(trace) if trace else nullcontext() as run.trace:
            ending = uvloop.run(simulate(run))
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


def _check_writable(name: str, path: Path | None) -> None:
    """Raise SettingsError if the file could not be written at the end of a run."""
    from headway.sim.settings import SettingsError

    if path is not None:
        try:
            path.touch()
        except OSError as error:
            raise SettingsError(f"{name}: {str(path)!r} cannot be written: {error.strerror}") from None
