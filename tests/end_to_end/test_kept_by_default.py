"""Jobs are on disk unless a setting says otherwise; where the file is, and a server that has none yet."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.process import AS_SHIPPED, Server, environment, launch, wait_until

SETTINGS = {"journal__path": AS_SHIPPED, "drain_linger": 0}


def test_a_server_without_settings_keeps_its_jobs_in_the_current_folder(tmp_path: Path) -> None:
    with launch(tmp_path, SETTINGS, exit_code=-signal.SIGKILL) as server:
        path, waiting = server.run("give", 1), server.submit("give", 2, delay=1000)
        assert promise(server) == "disk"
        server.signal(signal.SIGKILL)
    with launch(tmp_path, SETTINGS) as again:
        assert again.get(f"{path}/result").json == 1
        assert again.head(waiting)["job-state"] == "scheduled"
    assert {file.name for file in tmp_path.glob("*.db*")} >= {"headway.db", "headway.db-mark", "headway.db-attempts"}


def test_systemd_gives_the_folder(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    before = ["env", f"STATE_DIRECTORY={state}:{tmp_path}"]
    server = Server(tmp_path, {"server__port": 0, **SETTINGS}, before=before)
    try:
        server.wait_until_serving()
        assert (state / "headway.db").exists()
        assert list(tmp_path.glob("*.db*")) == []
        # The folder is that of the next program as well.
        assert "not deployed" not in server.deploy()
        assert promise(server) == "disk"
    finally:
        server.kill()


def promise(server: Server) -> str:
    """What the server says that it promises, once it is ready."""
    return wait_until(lambda: server.get("/readyz"), lambda answer: answer.status == 200)["job-durability"]


CHECK = ["--check"]


@pytest.mark.parametrize(
    ("folder", "arguments"),
    [
        ("nowhere", []),
        ("file", CHECK),
        ("/proc", []),
        *(pytest.param(folder, how, marks=pytest.mark.long) for folder, how in (("nowhere", CHECK), ("file", []))),
        pytest.param("/proc", CHECK, marks=pytest.mark.long),
    ],
)
def test_a_file_that_cannot_be_made_is_told_with_both_ways_out(
    tmp_path: Path, folder: str, arguments: list[str]
) -> None:
    (tmp_path / "file").touch()
    where = tmp_path / folder
    ended = subprocess.run(
        [sys.executable, "-m", "headway", "serve", *arguments],
        cwd=tmp_path,
        env=environment({"server__port": 0, **SETTINGS}) | {"STATE_DIRECTORY": str(where)},
        capture_output=True,
        text=True,
        check=False,
    )
    if arguments and folder == "/proc":
        # For root it looks like a folder to write to.
        assert ended.returncode in (0, 2)
        return
    (line,) = ended.stderr.splitlines()
    assert line.startswith("headway: ")
    assert str(where) in line
    assert line.endswith(
        ". Set journal.path to a file in a folder that the server may write to, or to null to keep jobs in memory"
    )
    assert ended.returncode == (2 if arguments else 3)


@pytest.mark.long
def test_a_server_in_memory_stays_there_until_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("journal: {path: null}")
    with launch(tmp_path, SETTINGS) as server:
        path = server.run("give", 1)
        # As settings of before do, these say nothing of a journal. The second time it is as before.
        for text in ("{}", "workers: 3", "journal: {path: headway.db}"):
            file.write_text(text)
            said = len(server.said)
            assert "not deployed" not in server.deploy()
            assert server.get(f"{path}/result").json == 1
            assert promise(server) == "memory"
            told = [line for line in server.said[said:] if "jobs stay in memory" in line]
            assert len(told) == 1
            assert "until the next restart" in told[0]
        # A journal that somebody has chosen is not passed over.
        file.write_text("journal: {path: own.db}")
        server.expected_errors.append("not deployed")
        assert "another journal now" in server.deploy()
        file.write_text("{}")
    assert list(tmp_path.glob("*.db*")) == []
    with launch(tmp_path, SETTINGS) as server:
        assert promise(server) == "disk"
        assert server.head(path).status == 421
