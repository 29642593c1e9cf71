"""A copy of a journal, and a start on an old one: no number and no id comes twice, no wrong file is joined."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from headway.core.errors import JournalError, MisdirectedError
from headway.core.ids import Ids
from headway.core.journal import report, schema, startup, watermark
from headway.core.journal.attempts import Attempts, beside
from headway.core.journal.backup import backup
from headway.core.journal.journal import Journal
from headway.core.journal.salvage import recover
from headway.core.journal.schema import NUMBERS_BY_CLOCK_MOST, numbers_by

from tests.core.journal.journal_child import submit

YEAR_2026, DAY_S = 1_767_225_600, 86_400


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[tuple[Journal, Callable[[], int]]]:
    """A journal that runs, and a function that submits a job to it; it is closed with the block."""
    journal, fatal = Journal(path), list[str]()
    number = journal.found.next_sequence

    def one_more() -> int:
        nonlocal number
        number += 1
        submit(journal, number - 1, b"%d" % number, 1.0)
        return number - 1

    journal.run(asyncio.get_running_loop(), lambda _: None, lambda _: None, fatal.append)
    try:
        yield journal, one_more
        await journal_is_quiet(journal)
    finally:
        await journal.close()
    assert fatal == []


async def journal_is_quiet(journal: Journal) -> None:
    async with asyncio.timeout(20):
        while journal.committed < journal.appended:  # noqa: ASYNC110 — seen from outside
            await asyncio.sleep(0.001)


def jobs_in(path: Path) -> list[int]:
    connection = schema.open_reader(path)
    try:
        return [row[0] for row in connection.execute("SELECT sequence FROM job ORDER BY sequence")]
    finally:
        connection.close()


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def found(path: Path) -> tuple[int, Ids]:
    """Begin with the journal at ``path`` and end at once: the first number, and the ids."""
    journal = startup.Found(path, "full")
    journal.close()
    return journal.next_sequence, journal.ids


def overwrite(path: Path, at: int, count: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(os.urandom(count))


def restored(copy: Path, path: Path) -> Path:
    """Put a backup where ``path`` is, as docs/deploy.md says."""
    path.parent.mkdir(exist_ok=True)
    shutil.copy(copy, path)
    shutil.copy(beside(copy), beside(path))
    return path


@pytest.mark.long
async def test_a_copy_is_of_one_moment_while_the_server_writes(tmp_path: Path) -> None:
    path, copies = tmp_path / "j", [tmp_path / f"copy-{n}" for n in range(4)]
    async with opened(path) as (journal, one_more):
        made: list[int] = []
        at_least: list[int] = []

        async def write() -> None:
            while True:
                made.extend(one_more() for _ in range(50))
                await asyncio.sleep(0)

        writing = asyncio.create_task(write())
        for copy in copies:
            await journal_has(journal, 200 + journal.committed)
            at_least.append(journal.committed)
            assert await asyncio.to_thread(backup, path, copy) >= at_least[-1]
        writing.cancel()
        with suppress(asyncio.CancelledError):
            await writing
    # Whole by itself, without a log.
    beside_it = [name for name in names_in(tmp_path) if name.startswith("copy-")]
    assert beside_it == sorted(file.name for copy in copies for file in (copy, beside(copy)))
    for copy, least in zip(copies, at_least, strict=True):
        assert report.check(copy) == []
        inside = jobs_in(copy)
        # All that was committed before, in order and without a gap.
        assert inside == made[: len(inside)]
        assert len(inside) >= least
        for file in (copy, beside(copy)):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def journal_has(journal: Journal, changes: int) -> None:
    async with asyncio.timeout(20):
        while journal.committed < changes:  # noqa: ASYNC110 — seen from outside
            await asyncio.sleep(0.001)


async def test_a_backup_that_is_restored_gives_no_number_and_no_id_again(tmp_path: Path) -> None:
    path, copy = tmp_path / "j", tmp_path / "copy"
    async with opened(path) as (journal, one_more):
        before, ids = [one_more() for _ in range(3)], journal.found.ids
        await journal_is_quiet(journal)
        backup(path, copy)
        after = [one_more() for _ in range(100)]
    async with opened(path) as (journal, one_more):
        of_next_run, ids_of_next_run = one_more(), journal.found.ids
    back = restored(copy, tmp_path / "back" / "j")
    first, now = found(back)
    assert first > of_next_run > max(after)
    # What came before the copy is there, and its ids are those of before.
    assert jobs_in(back) == before
    assert all(now.issued(number, ids.tag(number)) for number in before)
    # What came after it was issued: of the same run it is known, of the next it may be.
    assert all(now.issued(number, ids.tag(number)) for number in after)
    with pytest.raises(MisdirectedError):
        now.issued(of_next_run, ids_of_next_run.tag(of_next_run))
    batch = ids_of_next_run.write_batch(of_next_run, 1)
    with pytest.raises(MisdirectedError):
        now.read_batch(batch)
    # Of this run all is known.
    assert now.issued(first, now.tag(first))
    assert not now.issued(first, now.tag(first) ^ 1)
    assert now.read_batch(now.write_batch(first, 1)[:-1] + b"g") == (0, 0)
    # The second time as well.
    assert found(restored(copy, tmp_path / "again" / "j"))[0] > first


async def test_old_files_that_are_put_back_give_no_number_and_no_id_again(tmp_path: Path) -> None:
    """All of them, as they were after a clean end: nothing in them tells that they are old."""
    path, old = tmp_path / "live" / "j", tmp_path / "old"
    path.parent.mkdir()
    async with opened(path) as (_, one_more):
        one_more()
    shutil.copytree(path.parent, old)
    async with opened(path) as (journal, one_more):
        lost, ids = [one_more() for _ in range(1000)], journal.found.ids
    shutil.rmtree(path.parent)
    shutil.copytree(old, path.parent)
    first, now = found(path)
    assert first > max(lost)
    for number in lost:
        with pytest.raises(MisdirectedError):
            now.issued(number, ids.tag(number))


async def test_an_older_file_is_not_joined_with_a_newer_log_and_mark(tmp_path: Path) -> None:
    path, old = tmp_path / "j", tmp_path / "old"
    async with opened(path) as (_, one_more):
        one_more()
    shutil.copy(path, old)
    async with opened(path) as (journal, one_more):
        one_more()
        await journal_is_quiet(journal)
        killed = tmp_path / "killed"
        killed.mkdir()
        for file in ("j", "j-wal", "j-mark"):
            shutil.copy(tmp_path / file, killed)
    found(shutil.copytree(killed, tmp_path / "as-it-was") / "j")
    files = {file.name: file.read_bytes() for file in killed.iterdir()}
    shutil.copy(old, killed / "j")
    with pytest.raises(JournalError, match="another or an older file") as refused:
        found(killed / "j")
    assert f"delete {killed / 'j'}-mark and j-wal" in str(refused.value)
    # Nothing was written to them.
    assert {name: (killed / name).read_bytes() for name in files} == files | {"j": old.read_bytes()}
    # Doing as it says goes on from the older file.
    (killed / "j-mark").unlink()
    (killed / "j-wal").unlink()
    assert found(killed / "j")[0] > max(jobs_in(old))


@pytest.mark.parametrize("left", [["j-mark", "j-wal"], ["j-mark"], ["j-wal"]], ids=" ".join)
async def test_a_backup_is_not_joined_with_the_files_of_before(tmp_path: Path, left: list[str]) -> None:
    path, copy, crashed = tmp_path / "j", tmp_path / "copy", tmp_path / "crashed"
    crashed.mkdir()
    async with opened(path) as (journal, one_more):
        kept = one_more()
        await journal_is_quiet(journal)
        backup(path, copy)
        one_more()
        await journal_is_quiet(journal)
        for file in left:
            shutil.copy(tmp_path / file, crashed)
    restored(copy, crashed / "j")
    with pytest.raises(JournalError, match=r"copy|older file") as refused:
        found(crashed / "j")
    assert f"delete {crashed / 'j'}-mark and j-wal" in str(refused.value)
    for file in left:
        (crashed / file).unlink()
    # The refused start has made a mark without content.
    assert found(crashed / "j")[0] > kept
    assert jobs_in(crashed / "j") == [kept]


async def test_a_journal_that_is_larger_than_the_cache_of_sqlite_is_copied(tmp_path: Path) -> None:
    path, large = tmp_path / "j", b'"%b"' % (b"x" * 10_000)
    async with opened(path) as (journal, _):
        first = journal.found.next_sequence
        for number in range(first, first + 1000):
            submit(journal, number, large, 1.0)
        await journal_is_quiet(journal)
        assert await asyncio.to_thread(backup, path, tmp_path / "copy") == 1000
    assert report.check(tmp_path / "copy") == []


async def test_attempts_come_along(tmp_path: Path) -> None:
    path, copy = tmp_path / "j", tmp_path / "copy"
    async with opened(path) as (journal, one_more):
        attempts = Attempts(path)
        attempts.begin(10, [])
        number = one_more()
        attempts.note(number, 3)
        await journal_is_quiet(journal)
        backup(path, copy)
    assert Attempts(restored(copy, tmp_path / "back" / "j")).attempt(number) == 3


async def test_a_copy_says_what_it_is_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, copy = tmp_path / "j", tmp_path / "copy"
    async with opened(path) as (_, one_more):
        one_more()
    # Also of a journal that nobody has open.
    assert backup(path, copy) == 1
    for _ in range(2):
        found(copy)
    assert [record.getMessage() for record in caplog.records] == [
        f"{copy}: is a copy by headway journal backup: ids that were issued since it was made answer 410 or 421"
    ]


async def test_what_cannot_be_copied_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "j"
    async with opened(path) as (_, one_more):
        for _ in range(200):
            one_more()
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(JournalError, match=r"taken: exists\. Name a file that does not exist"):
        backup(path, tmp_path / "taken")
    with pytest.raises(JournalError, match=r"nowhere/copy: cannot be written: No such file"):
        backup(path, tmp_path / "nowhere" / "copy")
    # Itself it is not copied over.
    with pytest.raises(JournalError, match="exists"):
        backup(path, path)
    overwrite(path, schema.PAGE_BYTES * 5 + 1000, 100)
    before = names_in(tmp_path)
    with pytest.raises(JournalError, match=r"damaged|cannot be copied"):
        backup(path, tmp_path / "copy")
    assert names_in(tmp_path) == before


def test_numbers_go_by_the_clock_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [numbers_by(seconds) for seconds in (0.0, YEAR_2026 - 1.0, YEAR_2026)] == [0, 0, 0]
    assert numbers_by(YEAR_2026 + DAY_S) == DAY_S << 17
    # In 2040 they still do. A clock that is far off does not use up the numbers.
    assert 0 < numbers_by(YEAR_2026 + 14 * 365 * DAY_S) < NUMBERS_BY_CLOCK_MOST
    assert numbers_by(YEAR_2026 + 100 * 365 * DAY_S) == 0
    clock = YEAR_2026 + 300.0 * DAY_S
    monkeypatch.setattr(time, "time", lambda: clock)
    first, _ = found(tmp_path / "j")
    assert first >= numbers_by(clock)
    # A clock that is put back takes no number back.
    clock -= DAY_S
    assert found(tmp_path / "j")[0] >= first


def test_the_mark_is_made_anew_beside_a_copy(tmp_path: Path) -> None:
    found(tmp_path / "j")
    backup(tmp_path / "j", tmp_path / "copy")
    path = restored(tmp_path / "copy", tmp_path / "back" / "j")
    found(path)
    marked, old = (watermark.read(watermark.beside(name)) for name in (path, tmp_path / "j"))
    assert marked is not None
    assert old is not None
    assert marked.journal != old.journal
    assert report.check(path) == []


async def test_of_a_damaged_journal_all_but_the_damaged_page_is_saved(tmp_path: Path) -> None:
    """Its numbers begin far from 0, and lie far apart from run to run."""
    path = tmp_path / "j"
    runs: list[list[int]] = []
    for _ in range(2):
        async with opened(path) as (journal, one_more):
            runs.append([one_more() for _ in range(600)])
            await journal_is_quiet(journal)
    pages = leaves_of_jobs(path)
    # The first page of all, and the one on which one run ends and the next begins.
    for page in (pages[0], pages[len(pages) // 2]):
        out = tmp_path / f"saved-{page}"
        damaged = Path(shutil.copy(path, tmp_path / f"damaged-{page}"))
        overwrite(damaged, (page - 1) * schema.PAGE_BYTES, schema.PAGE_BYTES)
        saved = recover(damaged, out)
        assert saved.jobs >= 1200 - 120, page
        assert set(jobs_in(out)) <= {*runs[0], *runs[1]}


def leaves_of_jobs(path: Path) -> list[int]:
    """The pages of the table of jobs that have rows, in the order of their numbers."""
    connection = schema.open_reader(path)
    try:
        sql = "SELECT pageno FROM dbstat WHERE name = 'job' AND pagetype = 'leaf' ORDER BY path"
        return [row[0] for row in connection.execute(sql)]
    finally:
        connection.close()
