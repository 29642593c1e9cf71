"""``headway journal``: what people see of a journal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.end_to_end.process import environment


def journal(folder: Path, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run ``headway journal`` with the journal of ``folder`` as its default."""
    command = [sys.executable, "-m", "headway", "journal", *map(str, arguments)]
    settings = environment({"journal__path": str(folder / "j.db")})
    ended = subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True)
    assert ended.returncode == code, ended
    return ended


@pytest.fixture
def folder(tmp_path: Path, start: Start) -> Path:
    server = start(journal__path=str(tmp_path / "j.db"), drain_linger=0)
    server.run("give", {"a": 1})
    server.run("fail", {"message": "why"})
    server.submit("give", 1, delay=1000)
    return tmp_path


def test_a_journal_in_use_can_be_looked_at(folder: Path) -> None:
    assert journal(folder, "check").stdout.endswith(": good\n")
    shown = json.loads(journal(folder, "stats").stdout)
    assert shown["by_state"] == {"succeeded": 1, "failed": 1, "scheduled": 1}
    jobs = [json.loads(line) for line in journal(folder, "export", "--jsonl").stdout.splitlines()]
    assert [job["state"] for job in jobs] == ["succeeded", "failed", "scheduled"]
    assert jobs[0]["result"] == {"media_type": "application/json", "json": {"a": 1}}
    assert jobs[1]["payload"] == {"message": "why"}
    assert len(jobs[2]["id"]) == 36
    journal(folder, "export", "--out", folder / "jobs.jsonl")
    assert len((folder / "jobs.jsonl").read_text().splitlines()) == 3


def test_what_can_be_read_is_recovered(folder: Path) -> None:
    said = journal(folder, "recover", folder / "j.db", folder / "new.db").stdout
    assert "3 jobs, 2 results" in said
    assert journal(folder, "check", folder / "new.db").stdout.endswith(": good\n")
    assert "exists" in journal(folder, "recover", folder / "j.db", folder / "new.db", code=1).stderr


@pytest.mark.parametrize("command", ["check", "stats", "export"])
def test_a_file_that_is_no_journal_is_said_in_one_line(tmp_path: Path, command: str) -> None:
    (tmp_path / "j.db").write_text("not a database, but long enough for a header of one hundred bytes" * 3)
    said = journal(tmp_path, command, code=1)
    assert len(said.stderr.splitlines()) == 1
    assert said.stderr.startswith("headway: ")


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    assert "does not exist" in journal(tmp_path, "check", code=2).stderr
