"""Of a damaged journal all is saved that can be read, whatever is missing of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from headway.core.errors import CopyError, JournalError
from headway.core.journal import report, salvage, schema
from headway.core.journal.startup import Found

from tests.core.journal.test_journal import end, opened, submit

JOBS = 3000


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed journal with some thousand jobs."""
    path = tmp_path_factory.mktemp("closed") / "j"

    async def fill() -> None:
        async with opened(path) as (journal, said):
            first = journal.found.next_sequence
            for number in range(JOBS):
                submit(journal, first + number, b"p" * 40)
                end(journal, first + number, number + 1, b"%d" % number)
                if number % 100 == 99:
                    await said.until(lambda: said.committed == journal.appended)

    asyncio.run(fill())
    return path


def cut(closed: Path, tmp_path: Path, size: int) -> Path:
    path = tmp_path / "j"
    path.write_bytes(closed.read_bytes()[:size])
    return path


def secret(path: Path) -> bytes:
    with closing(schema.open_reader(path)) as connection:
        return schema.Meta(connection).secret


@pytest.mark.parametrize("pages", [1, 2, 10, -2])
def test_of_a_journal_cut_short_the_pages_that_are_left_are_saved(closed: Path, tmp_path: Path, pages: int) -> None:
    """Of half the file, half the jobs."""
    whole = closed.stat().st_size
    size = whole // 2 if pages < 0 else whole - pages * schema.PAGE_BYTES
    path = cut(closed, tmp_path, size)
    saved = salvage.recover(path, tmp_path / "new")
    assert saved.jobs > 0.8 * JOBS * size / whole
    assert saved.results > 0.8 * JOBS * size / whole
    assert saved.ids_kept
    assert not saved.whole
    assert secret(tmp_path / "new") == secret(closed)
    assert report.check(tmp_path / "new") == []
    # A start on it is possible, and no number is given twice.
    found = Found(tmp_path / "new", "full")
    assert found.next_sequence > JOBS
    found.close()
    assert path.stat().st_size == size


def test_a_journal_that_is_whole_is_saved_as_a_whole(closed: Path, tmp_path: Path) -> None:
    saved = salvage.recover(cut(closed, tmp_path, closed.stat().st_size), tmp_path / "new")
    assert (saved.jobs, saved.doubtful, saved.ids_kept, saved.whole) == (JOBS, 0, True, True)


def test_rows_of_which_a_part_is_gone_are_counted_as_lost(closed: Path, tmp_path: Path) -> None:
    saved = salvage.recover(cut(closed, tmp_path, closed.stat().st_size - 100), tmp_path / "new")
    assert saved.jobs + saved.results < 2 * JOBS
    assert not saved.whole


@pytest.mark.parametrize("size", [0, 60, schema.PAGE_BYTES])
def test_a_journal_of_which_nothing_can_be_read_leaves_no_new_one(closed: Path, tmp_path: Path, size: int) -> None:
    path = cut(closed, tmp_path, size)
    with pytest.raises(JournalError, match="nothing can be read"):
        salvage.recover(path, tmp_path / "new")
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith("new")] == []


def test_the_secret_of_a_page_with_a_wrong_checksum_is_kept(closed: Path, tmp_path: Path) -> None:
    path = cut(closed, tmp_path, closed.stat().st_size)
    with closing(schema.open_reader(path)) as connection:
        page = next(connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'meta'"))[0]
    data = bytearray(path.read_bytes())
    # In the empty part of the page.
    data[(page - 1) * schema.PAGE_BYTES + 2000] ^= 1
    path.write_bytes(data)
    saved = salvage.recover(path, tmp_path / "new")
    assert (saved.jobs, saved.doubtful, saved.ids_kept) == (JOBS, 1, True)
    assert secret(tmp_path / "new") == secret(closed)


def test_damage_to_the_last_page_of_a_table_costs_that_page(closed: Path, tmp_path: Path) -> None:
    path = cut(closed, tmp_path, closed.stat().st_size)
    with closing(schema.open_reader(path)) as connection:
        sql = "SELECT max(pageno) FROM dbstat WHERE name = 'job' AND pagetype = 'leaf'"
        page = next(connection.execute(sql))[0]
    data = bytearray(path.read_bytes())
    data[(page - 1) * schema.PAGE_BYTES : page * schema.PAGE_BYTES] = b"\xff" * schema.PAGE_BYTES
    path.write_bytes(data)
    saved = salvage.recover(path, tmp_path / "new")
    assert JOBS - 100 < saved.jobs < JOBS
    assert saved.results == JOBS


def test_a_new_journal_for_which_there_is_no_room_is_said_and_not_left(closed: Path, tmp_path: Path) -> None:
    """Rows that find no room are not passed over."""
    limited = (
        "import resource, sys; from pathlib import Path; from headway.core.journal import salvage; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); salvage.recover(*map(Path, sys.argv[1:]))"
    )
    out = tmp_path / "new"
    command = [sys.executable, "-c", limited, str(closed), str(out)]
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"CopyError: {out}: cannot be written: " in failed.stderr
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CopyError, match="cannot be written: No such file"):
        salvage.recover(closed, tmp_path / "no" / "new")


@pytest.mark.parametrize("name", ["job", "meta"])
def test_all_that_reads_a_damaged_journal_names_recover(closed: Path, tmp_path: Path, name: str) -> None:
    path = cut(closed, tmp_path, closed.stat().st_size)
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        page = next(connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)))[0]
    data = bytearray(path.read_bytes())
    data[page * schema.PAGE_BYTES - 100] ^= 1
    path.write_bytes(data)
    hint = rf"damaged .*headway journal recover {path} NEW"
    with pytest.raises(JournalError, match=hint):
        report.stats(path)
    with pytest.raises(JournalError, match=hint), (tmp_path / "lines").open("wb") as lines:
        report.export(path, lines)
