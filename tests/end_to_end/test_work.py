"""``headway work``: a node without HTTP."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.process import environment


@pytest.mark.parametrize("options", [(), ("--check",)])
def test_a_node_without_a_store_is_refused_in_one_line(tmp_path: Path, options: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "headway", "work", *options]
    ended = subprocess.run(command, cwd=tmp_path, env=environment({}), capture_output=True, text=True)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("headway: engine: headway work needs a store that nodes share")
