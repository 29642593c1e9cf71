"""The bytes that a journal takes: its log is bounded, room is taken before it is needed, a full disk is survived."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from unittest.mock import patch

import apsw
import pytest
from headway.core.job import State
from headway.core.journal import schema
from headway.core.journal.database import LOG_BYTES, LOG_FRAMES
from headway.core.journal.startup import Found
from headway.core.journal.writer_link import WriterLink

from tests.core.journal.test_journal import CHILD, contents, end, on_a_loop, opened, submit, submitted
from tests.small_disk import small_disk

# Disks that fill up and files that grow take their time.
pytestmark = pytest.mark.long

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    with small_disk(tmp_path / "disk", 24) as folder:
        yield folder


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


@pytest.mark.parametrize("size", [100, 50_000, 3 * MIB])
def test_the_log_is_bounded_by_bytes_whatever_a_commit_has(tmp_path: Path, size: int) -> None:
    async def main() -> None:
        path, most, sequence = tmp_path / "j", 0, 0
        async with opened(path, "normal") as (journal, said):
            written = 0
            while written < 5 * LOG_BYTES:
                for _ in range(max(1, min(MIB // size, 400))):
                    sequence += 1
                    submit(journal, sequence, b"x" * size)
                    written += size + 200
                await said.until(lambda: said.committed == journal.appended)
                most = max(most, log_of(path).stat().st_size)
        assert LOG_BYTES < most < LOG_BYTES + size * 3 // 2 + 2 * MIB

    asyncio.run(main())


@on_a_loop
async def test_a_log_that_a_reader_has_kept_long_is_cut_back(tmp_path: Path) -> None:
    path = tmp_path / "j"
    async with opened(path, "normal") as (journal, said):
        submit(journal, 1)
        await said.until(lambda: said.committed == 1)
        reader = schema.open_reader(path)
        reading = reader.execute("SELECT * FROM job UNION ALL SELECT * FROM job")
        next(reading)
        sequence = 1

        async def write(mebibytes: int) -> None:
            nonlocal sequence
            for _ in range(mebibytes):
                sequence += 1
                submit(journal, sequence, b"x" * MIB)
                await said.until(lambda: said.committed == journal.appended)

        await write(24)
        assert log_of(path).stat().st_size > 2 * LOG_BYTES
        reading.close()
        reader.close()
        await write(4)
        assert log_of(path).stat().st_size < LOG_BYTES + 2 * MIB


@on_a_loop
async def test_readers_that_come_all_the_time_do_not_keep_the_log(tmp_path: Path) -> None:
    path = tmp_path / "j"
    async with opened(path, "normal") as (journal, said):
        submit(journal, 1)
        end(journal, 1, 1, b"r" * MIB)
        await said.until(lambda: said.committed == 2)
        over = False

        async def read() -> None:
            while not over:
                assert await journal.reader.result(1)

        reading = asyncio.create_task(read())
        most = 0
        # Three times as much as the log may have.
        for sequence in range(2, 2 + 3 * LOG_BYTES // MIB):
            submit(journal, sequence, b"x" * MIB)
            await said.until(lambda: said.committed == journal.appended)
            most = max(most, log_of(path).stat().st_size)
        over = True
        await reading
    assert most < 2 * LOG_BYTES


def test_a_checkpoint_never_needs_room(tmp_path: Path) -> None:
    """As it may have to be made while there is none."""
    path = tmp_path / "j"
    found = Found(path, "full")
    file, connection = found.file, found.connection
    sequence = 0
    for size in (0, 0, 100, 3000, 5000, 70_000, 2 * MIB, 10, 200_000):
        for _ in range(30 if size < MIB else 2):
            batch = [submitted(sequence + more, b"x" * size) for more in range(1, 11)]
            sequence += 10
            assert file.commit(batch, sequence)
            assert int(str(connection.pragma("page_count"))) * schema.PAGE_BYTES <= path.stat().st_size
        allocated = path.stat().st_size
        frames, copied = connection.wal_checkpoint()
        assert 0 < frames == copied
        assert path.stat().st_size <= allocated
        file.room.checkpointed()
    found.close()


def test_retention_makes_room_while_the_disk_is_full(disk: Path) -> None:
    async def main() -> None:
        path = disk / "j"
        async with opened(path) as (journal, said):
            sequence = 0
            while not journal.full:
                sequence += 1
                submit(journal, sequence, b"x" * 200_000)
                await said.until(lambda: said.committed == journal.appended or journal.full)
                if not journal.full:
                    end(journal, sequence, sequence, b"y" * 200_000)
                    await said.until(lambda: said.committed == journal.appended or journal.full)
            assert os.statvfs(disk).f_bavail * 4096 < MIB
            # Reads go on.
            assert await journal.reader.result(1) == ("text/plain", b"y" * 200_000)
            journal.expire([sequence - 5] * len(State), 0.0, 0, 0.0)
            await said.until(lambda: not journal.full)
            assert journal.expired == sequence - 5
            refused = len(said.rejected)
            for more in range(1, 20):
                submit(journal, sequence + more, b"x" * 200_000)
            await said.until(lambda: said.committed == journal.appended)
            assert said.fatal == []
            assert len(said.rejected) == refused <= 1
        assert len(contents(path)[0]) == 24 - refused

    asyncio.run(main())


def test_what_was_asked_for_is_refused_at_once_and_what_has_happened_is_kept(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path / "j") as (journal, said):
            for sequence in range(1, 6):
                submit(journal, sequence)
            end(journal, 3, 1)
            await said.until(lambda: said.committed == journal.appended)
            before = resource.prlimit(journal.delivery.link.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
            begun = monotonic()
            submit(journal, 6)
            await said.until(lambda: said.rejected)
            journal.cancel(sequence=1, attempt=0, started=None, reason=0, ended=5.0, place=1, until=9.0)
            journal.forget_result(3)
            journal.retry(4, State.RETRYING, 1, 7.0, 5.0)
            submit(journal, 7)
            await said.until(lambda: len(said.rejected) == 4)
            # At once, not at the next try.
            assert monotonic() - begun < 0.9
            assert sorted(said.rejected) == [1, 3, 6, 7]
            end(journal, 2, 3)
            await asyncio.sleep(1.2)
            assert journal.full
            resource.prlimit(journal.delivery.link.pid, resource.RLIMIT_FSIZE, before)
            await said.until(lambda: not journal.full)
            await said.until(lambda: said.committed == journal.appended)
            assert sorted(said.rejected) == [1, 3, 6, 7]

    asyncio.run(main())
    jobs, _, results = contents(tmp_path / "j")
    states = [State.QUEUED, State.SUCCEEDED, State.SUCCEEDED, State.RETRYING, State.QUEUED]
    assert [(job.sequence, job.state) for job in jobs] == list(zip(range(1, 6), states, strict=True))
    assert [row[0] for row in results] == [2, 3]


@on_a_loop
async def test_what_is_under_way_when_others_are_refused_is_refused_with_them(tmp_path: Path) -> None:
    async with opened(tmp_path / "j") as (journal, said):
        submit(journal, 1)
        await said.until(lambda: said.committed == 1)
        writer = journal.delivery.link.pid
        os.kill(writer, signal.SIGSTOP)
        before = resource.prlimit(writer, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        # Many messages, of which the writer reads some at a time.
        for sequence in range(2, 62):
            submit(journal, sequence, b"x" * 10_000)
            await asyncio.sleep(0.001)
        os.kill(writer, signal.SIGCONT)
        await said.until(lambda: len(said.rejected) == 60)
        resource.prlimit(writer, resource.RLIMIT_FSIZE, before)
        await said.until(lambda: not journal.full)
        submit(journal, 62)
        await said.until(lambda: said.committed == journal.appended)
    assert [job.sequence for job in contents(tmp_path / "j")[0]] == [1, 62]


@pytest.mark.parametrize("name", ["EDQUOT", "EFBIG", "ENOSPC"])
def test_whatever_it_is_that_leaves_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(WriterLink, "module", "tests.core.journal.watched_writer")
    monkeypatch.setenv("WATCH_ERRNO", name)

    async def main() -> None:
        async with opened(tmp_path / "j") as (journal, said):
            sequence = 0
            while not said.rejected:
                sequence += 1
                submit(journal, sequence)
                await said.until(lambda: said.committed == journal.appended or said.rejected)
            assert journal.full
            await said.until(lambda: not journal.full)
            submit(journal, sequence + 1)
            await said.until(lambda: said.committed == journal.appended)
            assert said.fatal == []

    asyncio.run(main())


@on_a_loop
async def test_a_writer_that_dies_while_there_is_no_room(tmp_path: Path) -> None:
    async with opened(tmp_path / "j") as (journal, said):
        submit(journal, 1)
        await said.until(lambda: said.committed == 1)
        resource.prlimit(journal.delivery.link.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        submit(journal, 2)
        end(journal, 1, 1)
        await said.until(lambda: said.rejected == [2])
        # The next one has no such limit.
        os.kill(journal.delivery.link.pid, 9)
        await said.until(lambda: not journal.full)
        await said.until(lambda: said.committed == journal.appended)
        submit(journal, 3)
        await said.until(lambda: said.committed == journal.appended)
    assert [(job.sequence, job.place) for job in contents(tmp_path / "j")[0]] == [(1, 1), (3, None)]


@pytest.mark.long
@on_a_loop
async def test_retention_keeps_pace_with_submissions_on_a_slow_disk(tmp_path: Path) -> None:
    path, kept = tmp_path / "j", 100
    slow = patch.dict(os.environ, {"WATCH_SLEEP": "0.006"})
    with slow, patch.object(WriterLink, "module", "tests.core.journal.watched_writer"):
        async with opened(path) as (journal, said):
            reader = schema.open_reader(path)
            sequence = 0
            outstanding = 0
            until = monotonic() + 3
            while monotonic() < until:
                for _ in range(20):
                    sequence += 1
                    submit(journal, sequence, key=f"k{sequence}")
                    end(journal, sequence, sequence)
                journal.give_up([said.committed // 2 - kept] * len(State), said.committed // 2 - kept)
                outstanding = max(outstanding, (journal.appended - said.committed) // 2)
                await asyncio.sleep(0)
                await said.until(lambda: journal.appended - said.committed <= 400)
                jobs, keys = (int(str(reader.execute(f"SELECT count(*) FROM {name}").get)) for name in ("job", "keyed"))
                assert max(jobs, keys) < kept + 3 * outstanding
            reader.close()
    assert sequence > 2000


def test_what_retention_left_over_is_deleted_in_slices(tmp_path: Path) -> None:
    found = Found(tmp_path / "j", "normal")
    file, connection = found.file, found.connection
    batch = [submitted(sequence, b"x") for sequence in range(1, 5001)]
    assert file.commit(batch, 5000)
    connection.execute("UPDATE job SET place = sequence, state = 5, until = 1000.0 + sequence")
    file.expiry.give_up([1000] * len(State), 0)
    file.expiry.give_up_before(1000.0 + 3000, 0.0)
    slices = 0
    while file.expiry.left:
        before = file.expired
        assert file.expire()
        slices += 1
        assert file.expired - before <= 2 * 2000
    assert slices > 2
    assert connection.execute("SELECT min(sequence), count(*) FROM job").fetchone() == (3001, 2000)
    commits = schema.Meta(connection).commits
    file.expiry.give_up_before(1000.0, 0.0)
    assert file.expire()
    # Nothing was there to be deleted, and nothing was written.
    assert schema.Meta(connection).commits == commits
    found.close()


def frames(connection: apsw.Connection) -> int:
    return connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0]


def test_a_checkpoint_begins_by_bytes_not_by_commits(tmp_path: Path) -> None:
    found = Found(tmp_path / "j", "normal")
    file, connection = found.file, found.connection
    assert file.commit([submitted(1, b"x" * (LOG_BYTES + MIB))], 1)
    assert frames(connection) > LOG_FRAMES
    file.look()
    assert file.commit([submitted(2, b"x")], 2)
    assert frames(connection) < 100
    found.close()


def modes(folder: Path, program: list[str]) -> set[tuple[str, int]]:
    """Return (name, mode) of each file as it was seen at any moment while ``program`` made a journal in ``folder``."""
    seen: set[tuple[str, int]] = set()
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, umask=0) as running:
        os.set_blocking(running.stdout.fileno(), False)  # type: ignore[union-attr]
        while running.poll() is None:
            for file in folder.iterdir():
                with suppress(FileNotFoundError):
                    seen.add((file.name, stat.S_IMODE(file.stat().st_mode)))
    assert running.returncode == 0
    return seen


def test_every_file_is_its_owners_only_at_every_moment(tmp_path: Path) -> None:
    """Also where the umask would let all read; and so are the files that are made when an old one is replaced."""
    folder = tmp_path / "journals"
    folder.mkdir()
    seen: set[tuple[str, int]] = set()
    for _ in range(2):
        seen |= modes(folder, [sys.executable, str(CHILD), "files", str(folder / "j")])
    names = {name for name, _ in seen}
    assert {"j", "j-wal", "j-shm", "j-mark", "j-attempts"} <= names
    assert {mode for _, mode in seen} == {0o600}, seen
    recovered = tmp_path / "recovered"
    recovered.mkdir()
    assert {mode for _, mode in modes(recovered, [sys.executable, str(CHILD), "recovery", str(folder / "j")])} == {
        0o600
    }


@pytest.mark.skipif(sys.platform != "linux", reason="a sync is seen in /proc")
@pytest.mark.parametrize("what", ["start", "mark", "any_moment", "checkpoint", "end"])
def test_a_loss_of_power_finds_on_the_disk_what_it_needs(tmp_path: Path, what: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    program = [sys.executable, str(CHILD.with_name("power_child.py")), what, str(tmp_path)]
    # Elsewhere than in the folder of our package `tests`: see conftest.py.
    environment = os.environ | {"DISK": str(disk)}
    ran = subprocess.run(program, capture_output=True, text=True, timeout=60, env=environment, cwd="/", check=False)
    assert (ran.stdout, ran.stderr) == ("ok\n", "")
