"""``headway journal``: what people see of a journal."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result

from tests.conftest import Start
from tests.end_to_end.command import run
from tests.end_to_end.process import Server, environment, launch
from tests.protocol.wire import request, submission


def journal(folder: Path, *arguments: object, code: int = 0) -> Result:
    """Run ``headway journal`` with the journal of ``folder`` as its default."""
    return run(folder, "journal", *arguments, code=code, HEADWAY_JOURNAL__PATH=str(folder / "j.db"))


@pytest.fixture
def folder(tmp_path: Path, start: Start) -> Path:
    server = start(journal__path=str(tmp_path / "j.db"))
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


def test_the_program_does_the_same(folder: Path) -> None:
    for arguments, code in ((["check"], 0), (["stats"], 0), (["backup", "j.db"], 2)):
        command = [sys.executable, "-m", "headway", "journal", *arguments]
        settings = environment({"journal__path": str(folder / "j.db")})
        ended = subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True)
        here = journal(folder, *arguments, code=code)
        assert (ended.returncode, ended.stderr) == (code, here.stderr)
        # The file may have grown.
        assert ended.stdout.split(":")[0] == here.stdout.split(":")[0]


def test_what_can_be_read_is_recovered(folder: Path) -> None:
    said = journal(folder, "recover", folder / "j.db", folder / "new.db").stdout
    assert "3 jobs, 2 results" in said
    assert journal(folder, "check", folder / "new.db").stdout.endswith(": good\n")
    assert "exists" in journal(folder, "recover", folder / "j.db", folder / "new.db", code=2).stderr


def test_a_journal_cut_short_is_said_with_its_way_out(folder: Path) -> None:
    journal(folder, "backup", "cut.db")
    file = folder / "cut.db"
    whole = file.read_bytes()
    file.write_bytes(whole[:-4096])
    for command in (["check"], ["stats"], ["export"], ["backup"]):
        new = ["copy.db"] if command == ["backup"] else []
        (line,) = journal(folder, *command, "cut.db", *new, code=1).stderr.splitlines()
        assert line.endswith("Save the readable part with: headway journal recover cut.db NEW")
    assert "3 jobs" in journal(folder, "recover", "cut.db", "new.db").stdout
    # The first two pages have the tables and the secret, and no job.
    file.write_bytes(whole[: 2 * 4096])
    (line,) = journal(folder, "recover", "cut.db", "empty.db", code=1).stderr.splitlines()
    assert line == "headway: no job of cut.db could be read"
    file.write_bytes(whole[:4096])
    (line,) = journal(folder, "recover", "cut.db", "none.db", code=1).stderr.splitlines()
    assert line == "headway: cut.db: nothing can be read, so none.db was not made"
    assert not (folder / "none.db").exists()


@pytest.mark.parametrize("command", ["check", "stats", "export"])
def test_a_file_that_is_no_journal_is_said_in_one_line(tmp_path: Path, command: str) -> None:
    (tmp_path / "j.db").write_text("not a database, but long enough for a header of one hundred bytes" * 3)
    said = journal(tmp_path, command, code=1)
    assert len(said.stderr.splitlines()) == 1
    assert said.stderr.startswith("headway: ")


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    assert "does not exist" in journal(tmp_path, "check", code=2).stderr


def test_a_backup_is_of_the_journal_of_the_settings_or_of_the_one_that_is_named(folder: Path) -> None:
    assert journal(folder, "backup", "copy.db").stdout == "copy.db: 3 jobs\n"
    assert journal(folder, "backup", folder / "copy.db", "again.db").stdout == "again.db: 3 jobs\n"
    for name in ("copy.db", "again.db"):
        assert journal(folder, "check", name).stdout.endswith(": good\n")
    assert "exists" in journal(folder, "backup", "copy.db", code=2).stderr
    assert "exists" in journal(folder, "backup", "j.db", code=2).stderr
    assert "cannot be written" in journal(folder, "backup", "no/such/copy.db", code=2).stderr
    (line,) = journal(folder, "export", "--out", "no/such/lines", code=2).stderr.splitlines()
    assert line.startswith("headway: Could not open file 'no/such/lines'")
    assert "name the FILE" in journal(folder, "backup", code=2).stderr
    assert "no such journal" in journal(folder, "backup", "nowhere.db", "new.db", code=2).stderr


def test_an_export_to_an_output_that_is_closed_is_wrong_usage(folder: Path) -> None:
    words = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "headway", "journal", "export", "j.db"]
    ended = subprocess.run(words, cwd=folder, env=environment({}), capture_output=True, text=True, timeout=30)
    (line,) = ended.stderr.splitlines()
    assert (ended.returncode, "standard output is closed: name a file" in line) == (2, True)


def restore(copy: Path, path: Path) -> None:
    """Put a backup in the place of a journal, as docs/deploy.md says."""
    for end in ("", "-wal", "-shm", "-mark", "-attempts"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    shutil.copy(copy, path)
    shutil.copy(f"{copy}-attempts", f"{path}-attempts")


@pytest.mark.long
def test_a_restored_backup_says_nothing_wrong_of_any_job(tmp_path: Path) -> None:
    """Of jobs before the copy it says what was so then. Of later ones it says that it does not know them."""
    path, key = tmp_path / "j.db", ("Content-Type: application/json", "Idempotency-Key: later")
    settings = {"journal__path": str(path), "drain_linger": 0, "workers": 1}
    with launch(tmp_path, settings) as server:
        before, running = server.run("give", 1), server.submit("sleep", {"seconds": 100})
        waiting = server.submit("give", 2)
        server.wait_for(running, "running")
        journal(tmp_path, "backup", "copy.db")
        server.delete(running)
        ended, later = server.run("give", 3), server.run("give", 4)
        keyed = server.ask(request("POST", "/jobs", *key, body=submission("give", 5)))["location"]
        batch = server.ask(request("POST", "/batches", key[0], body=b"[%b]" % submission("give", 6)))["location"]
    with launch(tmp_path, settings, exit_code=-signal.SIGKILL) as server:
        of_next_run = server.run("give", 7)
        server.signal(signal.SIGKILL)
    restore(tmp_path / "copy.db", path)
    with launch(tmp_path, settings) as server:
        assert any("is a copy by headway journal backup" in line for line in server.said)
        assert server.get(f"{before}/result").json == 1
        # It runs again: it was running then.
        assert server.wait_for(running, "running")["job-attempt"] == "2"
        assert server.head(waiting)["job-state"] == "queued"
        new = [server.submit("give", -n, delay=1000) for n in range(200)]
        unknown = [ended, later, keyed, batch, of_next_run]
        assert set(unknown).isdisjoint(new)
        codes = [server.head(one).status for one in unknown]
        assert codes == [410, 410, 410, 410, 421]
        # A key that came since is unknown, so its job is accepted once more, and is another.
        assert server.head("/jobs/later").status == 404
        again = server.ask(request("POST", "/jobs", *key, body=submission("give", 5)))
        assert (again.status, "idempotency-replayed" in again.headers) == (202, False)
        assert again["location"] not in unknown
        server.delete(running)


def test_a_backup_without_the_files_of_before_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    settings = {"journal__path": str(path), "drain_linger": 0}
    with launch(tmp_path, settings, exit_code=-signal.SIGKILL) as server:
        server.run("give", 1)
        journal(tmp_path, "backup", "copy.db")
        server.signal(signal.SIGKILL)
    shutil.copy(tmp_path / "copy.db", path)
    server = Server(tmp_path, {"server__port": 0, **settings})
    assert server.wait() == 3
    (line,) = server.stderr
    assert f"delete {path}-mark and j.db-wal" in line
    server.kill()
