"""``make run-cluster``, without make."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# Nodes and servers that begin, die and come back take their time.
pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
SHOW = [sys.executable, "-m", "examples.cluster"]
PATIENCE_S = 60


def test_it_shows_a_job_at_both_nodes_and_ends() -> None:
    ended = subprocess.run(SHOW, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "HEAD at two   200, Job-State: succeeded" in ended.stdout
    shares = re.search(r"40 succeeded in .* s: (\d+) at one, (\d+) at two", ended.stdout)
    assert shares
    assert int(shares[1]) + int(shares[2]) == 40
    assert ended.stdout.endswith("All has ended.\n")


def test_ctrl_c_ends_all_of_it() -> None:
    shown = subprocess.Popen([*SHOW, "--stay"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert shown.stdout
    lines = []
    for line in shown.stdout:
        lines.append(line)
        if line.startswith("Both nodes go on"):
            break
    shown.send_signal(signal.SIGINT)
    # Its end is that of all processes that have its output.
    rest, errors = shown.communicate(timeout=PATIENCE_S)
    assert (shown.returncode, errors, rest) == (0, "", "All has ended.\n"), lines
