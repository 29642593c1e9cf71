"""What a start imports: each process what it needs, and the rest at its first use.

Seconds would depend on the machine; ``make bench-start`` measures them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.process import ROOT, Server, environment

# What takes 1 ms and more.
HEAVY = {
    "apsw",
    "asyncio",
    "click",
    "concurrent.futures",
    "ctypes",
    "email",
    "headway.core.config",
    "headway.core.journal",
    "headway.core.local",
    "headway.core.tasks.registry",
    "headway.protocol",
    "headway.sim.run",
    "headway.client",
    "http.client",
    "httptools",
    "httpx2",
    "inspect",
    "logging",
    "msgspec",
    "multiprocessing",
    "orjson",
    "prometheus_client",
    "rich",
    "ssl",
    "subprocess",
    "tempfile",
    "uvloop",
    "watchfiles",
    "yaml",
}
# Lines of Python, and what they need of it.
NEEDED = {
    "import headway": set(),
    "from headway import Context, Result, Retry, task": {"headway.core.tasks.registry", "inspect", "msgspec", "orjson"},
    "from headway.__main__ import main; main(['--help'], standalone_mode=False)": {"click", "inspect"},
    # A worker process.
    "import headway.core.processes.child": {
        "ctypes",
        "headway.core.tasks.registry",
        "inspect",
        "logging",
        "msgspec",
        "orjson",
    },
    # The process that writes the journal.
    "import headway.core.journal.writer": {"apsw", "headway.core.journal", "inspect", "msgspec", "tempfile"},
}
# Of a server that has done nothing yet; a task tells it.
NOT_SERVING = {
    *("ctypes", "email", "http.client", "httpx2", "multiprocessing", "prometheus_client", "rich", "watchfiles"),
    *("headway.client", "headway.sim.run"),
}
TASKS = """
import sys
import headway

@headway.task
async def modules(_):
    return sorted(sys.modules)
"""


@pytest.mark.parametrize("lines", NEEDED)
def test_a_process_imports_what_it_needs(lines: str) -> None:
    program = f"{lines}\nimport json, sys\nprint('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment({}), capture_output=True, text=True, check=True
    )
    found = set(json.loads(done.stdout.splitlines()[-1]))
    assert HEAVY & found - NEEDED[lines] == set()
    assert "headway" in found


@pytest.mark.parametrize("kept", [False, True], ids=["memory", "journal"])
def test_a_server_imports_what_it_needs(tmp_path: Path, kept: bool) -> None:
    (tmp_path / "tasks_that_look.py").write_text(TASKS)
    journal = {"journal__path": str(tmp_path / "journal.db")} if kept else {}
    executed = [sys.executable, "-m", "headway"]
    server = Server(tmp_path, {"server__port": 0, "tasks": ["tasks_that_look"], **journal}, command=executed)

    def modules() -> set[str]:
        return set(server.get(server.run("modules") + "/result").json)

    try:
        server.wait_until_serving()
        found = modules()
        assert found & NOT_SERVING == set()
        assert ({"apsw", "headway.core.journal", "headway.core.local.durable"} <= found) == kept
        assert server.get("/metrics").status == 200
        assert "prometheus_client" in modules()
    finally:
        server.kill()
