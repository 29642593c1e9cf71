"""``headway serve --reload``: a server that deploys when somebody writes code."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner
from headway.protocol.process.reload import Watch

from headway.cli.main import main
from tests.end_to_end.process import Server, wait_until
from tests.protocol.wire import PATIENCE_S

pytestmark = pytest.mark.long

# Python takes a file of the same second and the same size for unchanged.
TASKS = """
import headway
import {module}

@headway.task
async def number(_):
    return {number}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "tasks.py").write_text(TASKS.format(module="json", number=1))
    (tmp_path / "mine" / "__init__.py").touch()
    server = Server(tmp_path, {"server__port": 0, "tasks": ["mine.tasks"], "drain_linger": 0}, "--reload")
    try:
        server.wait_until_serving()
        yield server
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert server.errors == []
        assert server.stderr == []
    finally:
        server.kill()


def number(server: Server) -> int:
    """Run the task."""
    return int(server.get(server.run("number") + "/result").json)


def write(server: Server, path: Path, text: str, pattern: str) -> str:
    """Write a file, and return the line that the server logs about it."""
    said = len(server.said)
    path.write_text(text)
    line = server.wait_for_line(pattern, after=said)
    if "not deployed" not in line:
        server.wait_for_line("serving http://", after=said)
    return line


def test_code_and_settings_are_deployed_when_they_change(server: Server, tmp_path: Path) -> None:
    tasks, path = tmp_path / "mine" / "tasks.py", server.run("number")
    assert server.get(f"{path}/result").json == 1
    write(server, tasks, TASKS.format(module="json", number=22), "deployed: ")
    assert any(f"changed: {tasks}" in line for line in server.said)
    assert number(server) == 22
    # Nothing is lost.
    assert server.get(f"{path}/result").json == 1
    write(server, tmp_path / "headway.yaml", "workers: 3\n", "deployed: ")
    assert server.stats()["workers"]["count"] == 3


def test_running_jobs_are_waited_for_two_seconds_at_most(tmp_path: Path) -> None:
    """By a deploy, and by the end of the server; the settings of production say a minute."""
    tasks = "import headway, time\n\n@headway.task(run_in='process')\ndef sleep(_):\n    time.sleep(60)\n"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "tasks.py").write_text(tasks)
    settings = {
        "tasks": ["mine.tasks"],
        "drain_timeout": 60,
        "drain_linger": 0,
        "journal__path": str(tmp_path / "jobs"),
    }
    server = Server(tmp_path, {"server__port": 0, **settings}, "--reload")
    try:
        server.wait_until_serving()
        path = server.submit("sleep")
        server.wait_for(path, "running")
        began = time.monotonic()
        write(server, tmp_path / "mine" / "tasks.py", f"{tasks}\n", "deployed: ")
        assert 2 <= time.monotonic() - began < 20
        server.wait_for(path, "running")
        # It runs again, and the interruption has cost no attempt.
        assert server.head(path)["job-attempt"] == "1"
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert 2 <= time.monotonic() - began < 20
    finally:
        server.kill()


def test_code_that_does_not_start_is_told_and_left(server: Server, tmp_path: Path) -> None:
    server.expected_errors = ["not deployed, still serving as before"]
    tasks = tmp_path / "mine" / "tasks.py"
    line = write(server, tasks, TASKS.format(module="not_there", number=2), "not deployed")
    assert "still serving as before: tasks: 'mine.tasks' cannot be imported" in line
    assert "No module named 'not_there'" in line
    assert number(server) == 1
    assert "workers" in write(server, tmp_path / "headway.yaml", "workers: many\n", "not deployed")
    (tmp_path / "headway.yaml").unlink()
    write(server, tasks, TASKS.format(module="json", number=333), "deployed: ")
    assert number(server) == 333


def test_a_change_before_the_first_look_counts(tmp_path: Path) -> None:
    settings = tmp_path / "headway.yaml"
    watch, deployed = Watch([settings]), threading.Event()
    # The clock of files may be some milliseconds behind.
    time.sleep(0.02)
    settings.touch()
    watch.start(deployed.set)
    assert deployed.wait(PATIENCE_S)


def test_the_watched_folders_are_those_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_module_of_the_user.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "a_module_of_the_user", raising=False)
    __import__("a_module_of_the_user")
    watch = Watch([tmp_path / "settings" / "headway.yaml"])
    folders = watch.folders()
    assert str(tmp_path) in folders
    # It does not exist.
    assert str(tmp_path / "settings") not in folders
    assert not any(folder.startswith((sys.prefix, os.path.dirname(os.__file__))) for folder in folders)
    assert watch.counts(str(tmp_path / "settings" / "headway.yaml"))
    assert watch.counts(str(tmp_path / "other.py"))
    assert not watch.counts(str(tmp_path / "notes.txt"))


def test_a_project_beside_the_python_of_the_system_is_watched_and_no_file_of_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in /usr/src. Debian has a file of its Python in /etc, and links it."""
    for name in ("usr/lib/python", "usr/src/shop", "etc"):
        (tmp_path / name).mkdir(parents=True)
    for place in ("usr/src/shop/a_shop.py", "etc/a_site.py"):
        (tmp_path / place).touch()
    (tmp_path / "usr/lib/python/a_site.py").symlink_to(tmp_path / "etc/a_site.py")
    for file in ("usr/src/shop/a_shop.py", "usr/lib/python/a_site.py"):
        module = ModuleType(Path(file).stem)
        module.__file__ = str(tmp_path / file)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "usr"))
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path / "usr/lib/python"))
    folders = Watch([]).folders()
    assert [folder for folder in folders if folder.startswith(str(tmp_path))] == [str(tmp_path / "usr/src/shop")]


def test_a_folder_that_cannot_be_watched_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no space left for watches")

    monkeypatch.setattr("watchfiles.watch", refuse)
    Watch([tmp_path / "headway.yaml"]).start(lambda: None)
    wait_until(lambda: caplog.text, lambda text: "no space left for watches: changes are not noticed" in text)


def test_without_the_extra_a_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    ran = CliRunner().invoke(main, ["serve", "--reload"])
    assert ran.exit_code == 2
    assert ran.stderr == "headway: --reload: watchfiles is not installed: pip install 'headway[reload]'\n"
