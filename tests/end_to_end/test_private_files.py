"""The files that Headway makes: their owner alone can read them, whatever the umask."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from headway.cli.main import main
from tests.conftest import Start
from tests.end_to_end.process import Gate, Server, children

OF_OTHERS = 0o077


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Keep no right from anybody, unless a program does."""
    before = os.umask(0)
    yield
    os.umask(before)


def readable(folder: Path) -> list[str]:
    """Return the files and folders in a folder that others have a right to."""
    return [f"{path}: {path.stat().st_mode:o}" for path in folder.rglob("*") if path.stat().st_mode & OF_OTHERS]


def headway(*words: str | Path) -> None:
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, done.output


def journaled(start: Start, folder: Path) -> Server:
    tasks = ["tests.end_to_end.tasks_for_tests", "tests.end_to_end.tasks_of_content"]
    server = start(tasks=tasks, journal__path=str(folder / "jobs.db"), processes=1)
    assert isinstance(server, Server)
    return server


def open_to_others(pid: int) -> Iterator[str]:
    """Return the names of files that a process has open and others have a right to, as /proc shows them."""
    for path in Path(f"/proc/{pid}/fd").iterdir():
        # One may be closed while we look.
        with suppress(FileNotFoundError):
            if path.is_file() and path.stat().st_mode & OF_OTHERS:
                yield os.readlink(path)


def test_all_files_are_private(start: Start, tmp_path: Path, gate: Gate) -> None:
    folder = tmp_path / "journal"
    folder.mkdir(mode=0o700)
    server = journaled(start, folder)
    server.run("log_texts", {"texts": ["text"]})
    server.submit("until_file", gate.path)
    assert {path.name for path in folder.iterdir()} >= {"jobs.db", "jobs.db-wal", "jobs.db-shm", "jobs.db-attempts"}
    if sys.platform == "linux":
        for pid in (server.process.pid, *children(server)):
            # Others are programs and their data.
            shown = open_to_others(pid)
            assert [path for path in shown if str(tmp_path) in path or "headway" in Path(path).name] == []
    headway("journal", "backup", folder / "jobs.db", folder / "backup.db")
    headway("journal", "export", folder / "jobs.db", "--out", folder / "jobs.jsonl")
    headway("journal", "recover", folder / "backup.db", folder / "recovered.db")
    assert readable(folder) == []
    assert not any("chmod" in line for line in server.said)
    gate.open()


def test_the_folder_of_a_new_project_is_private(tmp_path: Path) -> None:
    headway("init", tmp_path / "shop")
    assert (tmp_path / "shop").stat().st_mode & OF_OTHERS == 0


def test_nobody_else_can_change_the_files_of_a_new_project(tmp_path: Path) -> None:
    """Its tasks are code of the server. The folder may be there, and open."""
    headway("init", tmp_path)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes.keys() >= {"tasks.py", "headway.yaml"}
    assert set(modes.values()) == {0o644}


def test_a_journal_that_others_can_read_is_named_in_one_line(start: Start, tmp_path: Path) -> None:
    before = journaled(start, tmp_path)
    before.signal(15)
    before.wait()
    for end in ("", "-wal"):
        (tmp_path / f"jobs.db{end}").chmod(0o644)
    server = journaled(start, tmp_path)
    (line,) = [line for line in server.said if "chmod" in line]
    assert f"chmod 600 {tmp_path}/jobs.db {tmp_path}/jobs.db-wal" in line
    assert '"level":"warning"' in line
