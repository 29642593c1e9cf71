"""Commands of ``headway`` in the process of the tests.

A program of its own takes a sixth of a second of CPU more. Each file of tests starts one, to see that it does the same.
"""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

from click.testing import CliRunner, Result

from headway.cli.main import main


def run(folder: Path, *arguments: object, code: int = 0, **variables: str) -> Result:
    """Run a command in ``folder``, which has to end with ``code``."""
    with chdir(folder):
        ended = CliRunner().invoke(main, list(map(str, arguments)), env=variables, catch_exceptions=False)
    assert ended.exit_code == code, ended.output
    return ended
