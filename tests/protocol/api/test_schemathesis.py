"""Schemathesis reads /openapi.json and asks what nobody here has thought of."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.process import ROOT, Server

pytestmark = pytest.mark.long

HOOKS = "tests.protocol.api.schemathesis_hooks"
# They are over in a moment. One of them takes only payloads of its type.
TASKS = ("nothing", "give", "fail", "scan")

# A valid submission may end in 424 if the client waits for its end. DELETE of a finished job deletes its result, and
# its status can still be read. A log may not have a range.
SETTINGS = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", 404, 409, 410, 416, 421, 424, 429]
[checks.use_after_free]
enabled = false
# Not QUERY: it is no method of RFC 9110 or RFC 5789, so it is answered with 501 (RFC 9110, 9.1), not with 405.
[phases.coverage]
unexpected-methods = ["DELETE", "PUT", "PATCH", "TRACE"]
"""


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Server]:
    """A server of which nobody waits for the jobs that are left: their delays are up to 30 days.

    With a journal, so that it keeps every durability that is demanded.
    """
    settings = {
        "server__port": 0,
        "tasks": ["examples.tasks", "tests.end_to_end.tasks_for_tests"],
        "http__wait_most": 1,
        "journal__path": str(tmp_path / "journal.db"),
    }
    server = Server(tmp_path, settings)
    try:
        server.wait_until_serving()
        yield server
        assert server.errors == []
        assert server.stderr == []
        assert server.process.poll() is None
    finally:
        server.kill()


def run(server: Server, folder: Path, *options: str) -> None:
    """Run all checks of Schemathesis, and ours."""
    (folder / "schemathesis.toml").write_text(SETTINGS)
    url = f"http://127.0.0.1:{server.port}/openapi.json"
    ran = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", url, "--no-color", "--warnings", "off", *options],
        cwd=folder,
        env=os.environ | {"SCHEMATHESIS_HOOKS": HOOKS, "SCHEMATHESIS_TASKS": ",".join(TASKS), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_schemathesis_finds_nothing(asked: Server, tmp_path: Path) -> None:
    run(asked, tmp_path, "--max-examples", "100", "--phases", "examples,coverage,fuzzing,stateful")
