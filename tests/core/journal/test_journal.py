"""The journal: what is acknowledged is there, whatever is killed, filled up, or damaged."""

from __future__ import annotations

import asyncio
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from functools import wraps
from io import BytesIO
from itertools import chain
from math import inf
from pathlib import Path
from time import monotonic, sleep

import apsw
import orjson
import pytest
from headway.core import audit
from headway.core.audit import Act, AuditEntry
from headway.core.config import Config, JournalSection
from headway.core.errors import JournalError
from headway.core.job import Reason, State, Terms, decode_terms, encode_terms
from headway.core.journal import delivery, reader, report, salvage, schema
from headway.core.journal.journal import Journal
from headway.core.journal.notes import Kind
from headway.core.journal.startup import Found
from headway.core.journal.statement import Change
from headway.core.journal.writer_link import WriterLink
from headway.core.open import open_engine
from headway.core.past_attempt import PastAttempt, encode_attempt
from headway.core.retention import Retention
from headway.core.tasks.registry import Options, Registry
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core import virtual_time
from tests.core.journal.watched_writer import early

CHILD = Path(__file__).parent / "journal_child.py"
ROUNDS = int(os.environ.get("ROUNDS", "3"))
Rows = dict[int, list[object]]
# Of the log: a page and its header (sqlite.org/fileformat).
FRAME_BYTES = 24 + 4096


def on_a_loop(test: Callable[[Path], Coroutine[None, None, None]]) -> Callable[[Path], None]:
    @wraps(test)
    def run(tmp_path: Path) -> None:
        asyncio.run(test(tmp_path))

    return run


def on_a_loop_with(test: Callable[[Path, int], Coroutine[None, None, None]]) -> Callable[[Path, int], None]:
    @wraps(test)
    def run(tmp_path: Path, number: int) -> None:
        asyncio.run(test(tmp_path, number))

    return run


@pytest.fixture(autouse=True)
def _small_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have numbers begin at 1. tests/core/journal/test_backup.py has those that follow the clock."""
    monkeypatch.setattr(schema, "NUMBERS_A_SECOND", 0)


class Said:
    """What a journal told its loop."""

    def __init__(self) -> None:
        self.committed = 0
        self.rejected: list[int | str] = []
        self.fatal: list[str] = []
        self.turned = asyncio.Event()
        self.has_died = threading.Event()

    def commit(self, number: int) -> None:
        assert number >= self.committed
        self.committed = number
        self.turned.set()

    def full(self, sequences: list[int | str]) -> None:
        self.rejected += sequences
        self.turned.set()

    def died(self, line: str) -> None:
        self.fatal.append(line)
        self.turned.set()
        self.has_died.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.turned.clear()
                await self.turned.wait()


@asynccontextmanager
async def opened(path: Path, sync: schema.Sync = "full") -> AsyncIterator[tuple[Journal, Said]]:
    journal, said = Journal(path, sync), Said()
    journal.run(asyncio.get_running_loop(), said.commit, said.full, said.died)
    try:
        yield journal, said
    finally:
        await journal.close()


TERMS = Terms(30.0, 2, 9e9)


def submit(
    journal: Journal, sequence: int, payload: bytes = b"{}", key: str | None = None, terms: Terms = TERMS
) -> int:
    return journal.submit(
        sequence=sequence,
        state=State.QUEUED,
        task="sleep",
        payload=payload,
        priority=5,
        due=None,
        terms=encode_terms(terms),
        submitted=1000.0 + sequence,
        key=key,
        digest=b"d" if key else None,
    )


def end(journal: Journal, sequence: int, place: int, body: bytes | None = b"done") -> int:
    media = None if body is None else "text/plain"
    return journal.end(
        sequence=sequence,
        state=State.SUCCEEDED,
        attempt=1,
        started=2.0,
        reason=Reason.NONE,
        ended=1000.0 + place,
        place=place,
        until=1000.0 + place,
        media_type=media,
        body=body,
    )


def expired(journal: Journal, count: int) -> None:
    """Wait until retention, which tells nobody, has deleted ``count`` jobs."""
    deadline = monotonic() + 20
    while journal.expired < count:
        assert monotonic() < deadline
        sleep(0.001)


def contents(path: Path) -> tuple[list[reader.Saved], list[reader.KeyRow], list[tuple[object, ...]]]:
    """All that is in a journal, opened as at a start, without a writer; raises JournalError where it is refused."""
    found = Found(path, "full")
    try:
        jobs = list(chain.from_iterable(reader.jobs(found.connection)))
        keys = list(chain.from_iterable(found.keyed(0, -inf)))
        return jobs, keys, found.connection.execute("SELECT * FROM result ORDER BY sequence").fetchall()
    finally:
        found.close()


def child(*arguments: object, **environment: str) -> str:
    program = [sys.executable, str(CHILD), *map(str, arguments)]
    # Elsewhere than in the folder of our package `tests`: see conftest.py.
    ran = subprocess.run(program, capture_output=True, text=True, timeout=60, env=os.environ | environment, cwd="/")
    assert not ran.stderr
    return ran.stdout


# What is written is what is read.


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["submit", "submit", "retry", "end", "forget", "flush", "reopen"]), st.integers(0, 9)),
    max_size=60,
)


class Model:
    """Jobs as rows of reader.JOB in a dict, and how each change should alter them."""

    def __init__(self) -> None:
        self.rows: Rows = {}
        self.results: dict[int, bytes] = {}
        self.place = 0

    def apply(self, journal: Journal, what: str, number: int) -> None:
        if what == "submit":
            sequence = max([journal.found.next_sequence, *(one + 1 for one in self.rows)])
            payload = b"x" * (number * 700)
            submit(journal, sequence, payload, "key" if number == 3 else None)
            self.rows[sequence] = [
                *(sequence, State.QUEUED, 0, 0, 5, "sleep", 1000.0 + sequence, None, None, None, None, None),
                *(encode_terms(TERMS), payload, None, None),
            ]
            return
        over = what == "forget"
        jobs = [sequence for sequence, row in self.rows.items() if (row[10] is not None) == over]
        if not jobs:
            return
        sequence = jobs[number % len(jobs)]
        row = self.rows[sequence]
        attempt = int(str(row[2]))
        if what == "retry":
            journal.retry(sequence, State.RETRYING, attempt + 1, 7.5, 5.0)
            row[1], row[2], row[7], row[8] = State.RETRYING, attempt + 1, 5.0, 7.5
        elif what == "end":
            self.place += 1
            body = None if number == 0 else b"r" * (number * 1000)
            end(journal, sequence, self.place, body)
            row[1], row[2], row[7], row[9], row[10] = State.SUCCEEDED, 1, 2.0, 1000.0 + self.place, self.place
            row[11], row[13], row[15] = body and len(body), None, row[9]
            if body is not None:
                self.results[sequence] = body
        elif what == "forget":
            journal.forget_result(sequence)
            row[11] = row[11] or 0
            self.results.pop(sequence, None)


@pytest.mark.parametrize("most", [8, pytest.param(60, marks=pytest.mark.long)])
def test_any_changes_in_any_batches_are_read_back(tmp_path_factory: pytest.TempPathFactory, most: int) -> None:
    @given(OPERATIONS)
    @settings(max_examples=most, deadline=None)
    def test(operations: list[tuple[str, int]]) -> None:
        check_changes(tmp_path_factory.mktemp("journal") / "headway.db", operations)

    test()


def check_changes(path: Path, operations: list[tuple[str, int]]) -> None:
    model = Model()

    async def live(run: list[tuple[str, int]]) -> None:
        async with opened(path, "normal") as (journal, said):
            for what, number in run:
                if what == "flush":
                    await said.until(lambda: said.committed == journal.appended)
                else:
                    model.apply(journal, what, number)

    for run in runs(operations):
        asyncio.run(live(run))
        jobs, _, results = contents(path)
        assert [list(job) for job in jobs] == [model.rows[sequence] for sequence in sorted(model.rows)]
        assert {row[0]: row[2] for row in results} == model.results
        assert counted(path) == model.place
    shutil.rmtree(path.parent)


def counted(path: Path) -> int:
    """The jobs that ever succeeded. It is their last place, too."""
    connection = schema.open_reader(path)
    try:
        succeeded = reader.tally(connection).get("sleep", [0] * len(State))[State.SUCCEEDED]
        assert reader.places(connection)[0][State.SUCCEEDED] == succeeded
    finally:
        connection.close()
    return succeeded


def runs(operations: list[tuple[str, int]]) -> list[list[tuple[str, int]]]:
    """What is done until the journal is opened anew, each time."""
    runs: list[list[tuple[str, int]]] = [[]]
    for operation in operations:
        if operation[0] == "reopen":
            runs.append([])
        else:
            runs[-1].append(operation)
    return [run for run in runs if run]


@on_a_loop
async def test_a_batch_of_any_size_is_one_commit(tmp_path: Path) -> None:
    async with opened(tmp_path / "j") as (journal, said):
        for size in (1, 7, 8, 63, 64, 379, 380, 1200):
            before, first = journal.commits, journal.appended + 1
            for sequence in range(first, first + size):
                submit(journal, sequence)
            await said.until(lambda: said.committed == journal.appended)
            assert journal.commits == before + 1
    assert [job[0] for job in contents(tmp_path / "j")[0]] == list(range(1, journal.appended + 1))


@on_a_loop
async def test_acknowledgements_come_once_a_batch_and_in_order(tmp_path: Path) -> None:
    async with opened(tmp_path / "j") as (journal, said):
        numbers: list[int] = []
        for turn in range(50):
            numbers.append(submit(journal, turn + 1))
            await asyncio.sleep(0)
        await said.until(lambda: said.committed == journal.appended)
        assert numbers == list(range(1, 51))
        assert journal.commits <= 50


@on_a_loop
async def test_a_result_is_read_beside_the_writer_and_none_where_it_was_forgotten(tmp_path: Path) -> None:
    async with opened(tmp_path / "j") as (journal, said):
        submit(journal, 1)
        end(journal, 1, 1, bytes(range(256)) * 40)
        await said.until(lambda: said.committed == 2)
        assert await journal.reader.result(1) == ("text/plain", bytes(range(256)) * 40)
        journal.forget_result(1)
        await said.until(lambda: said.committed == 3)
        assert await journal.reader.result(1) is None
        assert await journal.reader.result(2) is None
    # That there was one is still known, so that it is gone rather than null.
    assert contents(tmp_path / "j")[0][0][11] == 256 * 40


@on_a_loop
async def test_the_payload_of_a_job_that_failed_is_kept_until_it_is_forgotten(tmp_path: Path) -> None:
    async with opened(tmp_path / "j") as (journal, said):
        for sequence in (1, 2, 3):
            submit(journal, sequence, b"p%d" % sequence)
        await said.until(lambda: said.committed == 3)
        submit(journal, 4, b"p4")
        for sequence, state in ((1, State.SUCCEEDED), (2, State.FAILED), (4, State.FAILED)):
            journal.end(
                sequence=sequence,
                state=state,
                attempt=1,
                started=2.0,
                reason=Reason.ERROR,
                ended=3.0,
                place=sequence,
                until=9e9,
                media_type="text/plain",
                body=b"why",
            )
        await said.until(lambda: said.committed == 7)
        assert [saved.payload for one in (1, 2, 3, 4, 5) if (saved := await journal.reader.job(one))] == [
            None,
            b"p2",
            b"p3",
            b"p4",
        ]
        journal.forget_result(2)
        await said.until(lambda: said.committed == 8)
        assert getattr(await journal.reader.job(2), "payload", b"") is None


@on_a_loop
async def test_retention_deletes_by_count_and_by_time_and_spares_what_is_active(tmp_path: Path) -> None:
    async with opened(tmp_path / "j") as (journal, said):
        for sequence in range(1, 3001):
            submit(journal, sequence, key=f"k{sequence}")
            if sequence % 10:
                end(journal, sequence, sequence)
        journal.expire([2000] * len(State), 0.0, 0, 0.0)
        await said.until(lambda: said.committed == journal.appended)
        await asyncio.to_thread(expired, journal, 1800)
        journal.expire([0] * len(State), 1000.0 + 2500, 0, 1000.0 + 11)
        await asyncio.to_thread(expired, journal, 2250)
    jobs, keys, results = contents(tmp_path / "j")
    kept = [sequence for sequence in range(1, 3001) if sequence % 10 == 0 or sequence > 2500]
    assert [job[0] for job in jobs] == kept
    assert [row[0] for row in results] == [sequence for sequence in kept if sequence % 10]
    assert [key[0] for key in keys] == list(range(11, 3001))


@on_a_loop
async def test_the_file_stops_growing(tmp_path: Path) -> None:
    path = tmp_path / "j"
    sizes = []
    async with opened(path, "normal") as (journal, said):
        for sequence in range(1, 24_001):
            submit(journal, sequence, b"x" * 200)
            end(journal, sequence, sequence, b"r" * 200)
            if sequence % 200 == 0:
                journal.expire([sequence - 2000] * len(State), 0.0, 0, 0.0)
                await said.until(lambda: said.committed == journal.appended)
            if sequence % 6000 == 0:
                sizes.append(path.stat().st_size)
    assert max(sizes[1:]) < 1.5 * sizes[1]
    assert path.stat().st_size < 4_000_000


# Numbers.


@on_a_loop
async def test_a_number_is_not_given_again_when_its_row_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "j"
    async with opened(path) as (journal, said):
        assert journal.found.next_sequence == 1
        submit(journal, 41)
        end(journal, 41, 1)
        journal.expire([1] * len(State), 0.0, 0, 0.0)
        await said.until(lambda: said.committed == 2)
        ids = journal.found.ids
    again = Journal(path)
    assert (again.found.unfinished(), again.found.next_sequence) == ([], 48)
    assert (again.found.ids.secret, again.found.ids.tag(41)) == (ids.secret, ids.tag(41))
    # Given again by an older copy of the file, a number would have another tag.
    assert again.found.ids.tag(48) != ids.tag(48)
    again.abandon()


@on_a_loop
async def test_what_was_not_committed_is_not_given_again_after_a_kill(tmp_path: Path) -> None:
    async with opened(tmp_path / "j") as (journal, said):
        submit(journal, 7)
        await said.until(lambda: said.committed == 1)
        killed = copied(tmp_path / "j", tmp_path / "killed")
    again = Journal(killed)
    assert again.found.next_sequence == 8 + schema.SKIP
    again.abandon()
    again = Journal(killed)
    assert again.found.next_sequence == 8 + schema.SKIP
    again.abandon()


def copied(path: Path, folder: Path) -> Path:
    """What a SIGKILL would leave of a journal that is open: its files but the shared memory."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file in path.parent.glob(f"{path.name}*"):
        if file.is_file() and not file.name.endswith("-shm"):
            shutil.copy(file, folder)
    return folder / path.name


@pytest.mark.long
def test_nothing_acknowledged_is_lost_and_no_number_given_twice_when_killed(tmp_path: Path) -> None:
    path, handed = tmp_path / "j", 0
    acknowledged = 0
    for number in range(ROUNDS):
        # The first one always comes so far that something is acknowledged.
        said = killed_after(random.uniform(0.1 if number else 0.3, 0.4), path)
        opens = [int(line[1]) for line in said if line[0] == "open"]
        assert not [line for line in said if line[0] in ("full", "fatal")]
        if not opens:
            continue
        assert opens[0] > handed, "a number was given twice"
        handed = max([handed, *(int(line[1]) for line in said if line[0] == "handed")])
        acked = [(int(line[1]), int(line[2])) for line in said if line[0] == "acked"]
        last, over = acked[-1] if acked else (opens[0] - 1, 0)
        rows = [job for job in killed_rows(path) if job[0] >= opens[0]]
        # Retention has taken what ended long ago.
        kept = range(max(opens[0], handed - 5000), last + 1)
        assert set(kept) <= {row[0] for row in rows}, "a job was lost"
        assert all(row[1] == State.SUCCEEDED for row in rows if row[0] <= over), "an end was lost"
        assert all(row[13] == b"%d" % row[0] for row in rows if row[10] is None)
        acknowledged += last - opens[0] + 1
    assert acknowledged > 10 * ROUNDS


def killed_after(seconds: float, path: Path) -> list[list[str]]:
    """What a child said until it was killed: ``seconds`` after it was first acknowledged, or a moment before that."""
    with subprocess.Popen([sys.executable, CHILD, "append", path], stdout=subprocess.PIPE) as program:
        assert program.stdout
        data = b""
        while seconds > 0.2 and b"acked" not in data:
            data += program.stdout.read1()  # type: ignore[attr-defined]
        deadline = monotonic() + seconds - 0.1
        os.set_blocking(program.stdout.fileno(), False)
        while monotonic() < deadline:
            data += program.stdout.read(1 << 20) or b""
        program.kill()
        os.set_blocking(program.stdout.fileno(), True)
        data += program.stdout.read()
    # The last line may have been cut.
    return [line.split() for line in data.decode().split("\n")[:-1]]


def killed_rows(path: Path) -> list[reader.Saved]:
    """The rows in a journal that was killed; it stays as it is."""
    if not path.exists():
        return []
    connection = schema.open_reader(path)
    try:
        return list(chain.from_iterable(reader.jobs(connection)))
    finally:
        connection.close()


# Syncs and failures, by a file system that watches or fails.


def test_every_acknowledgement_leaves_after_its_own_sync(tmp_path: Path) -> None:
    said = child("sync", tmp_path / "j").splitlines()
    assert early(said) == []
    what, acked, _, commits = said[-1].split()
    assert (what, acked) == ("acked", "3004")
    syncs = next(int(line.split()[1]) for line in said if line.startswith("syncs"))
    assert syncs >= int(commits) > 50


@pytest.mark.parametrize("what", ["sync", "write"])
def test_an_error_of_the_disk_is_fatal_and_acknowledges_nothing_more(tmp_path: Path, what: str) -> None:
    said = child("sync", tmp_path / "j", WATCH_FAIL=what).splitlines()
    assert early(said) == []
    fatal, acked = (line for line in said if line.split()[0] in ("fatal", "acked"))
    assert re.fullmatch(rf"fatal \S+/j: cannot be written: IOError: .*no {what}.*", fatal)
    assert 0 < int(acked.split()[1]) < 3000


def submitted(sequence: int, payload: bytes) -> Change:
    return (sequence, "sleep", State.QUEUED, None, payload, 5, b"{}", 0, None, 1.0, None, None, None)


def test_a_file_that_may_not_grow_takes_nothing_and_then_all(tmp_path: Path) -> None:
    found = Found(tmp_path / "j", "full")
    file, connection = found.file, found.connection
    connection.pragma("max_page_count", int(str(connection.pragma("page_count"))) + 2)
    batch = [submitted(sequence, b"x" * 1000) for sequence in range(1, 30)]
    assert not file.commit(batch, 29)
    assert file.full
    assert found.unfinished() == []
    connection.pragma("max_page_count", 1 << 30)
    assert file.commit(batch, 29)
    assert not file.full
    found.close()
    assert len(contents(tmp_path / "j")[0]) == 29


@contextmanager
def no_room(journal: Journal) -> Iterator[None]:
    """Let no file of the writer's grow, as a full disk would."""
    pid = journal.delivery.link.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    yield
    with suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def test_no_room_rejects_submissions_keeps_ends_and_heals(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path / "j") as (journal, said):
            submit(journal, 1)
            await said.until(lambda: said.committed == 1)
            with no_room(journal):
                for sequence in range(2, 30):
                    submit(journal, sequence, b"x" * 1000)
                end(journal, 1, 1, b"r" * 20_000)
                await said.until(lambda: said.rejected)
                assert journal.full
                assert said.committed == 1
                assert said.rejected == list(range(2, 30))
                # What is asked for meanwhile is refused at once.
                submit(journal, 30)
                await said.until(lambda: said.rejected[-1] == 30)
                assert journal.full
                assert await journal.reader.result(1) is None
            await said.until(lambda: said.committed == journal.appended)
            assert not journal.full
            assert await journal.reader.result(1) == ("text/plain", b"r" * 20_000)
            submit(journal, 31)
            await said.until(lambda: said.committed == journal.appended)
            assert said.fatal == []

    asyncio.run(main())
    assert [(job[0], job[1]) for job in contents(tmp_path / "j")[0]] == [(1, State.SUCCEEDED), (31, State.QUEUED)]


@on_a_loop
async def test_a_journal_that_is_closed_without_room_ends_all_the_same(tmp_path: Path) -> None:
    journal, said = Journal(tmp_path / "j"), Said()
    journal.run(asyncio.get_running_loop(), said.commit, said.full, said.died)
    submit(journal, 1)
    await said.until(lambda: said.committed == 1)
    with no_room(journal):
        submit(journal, 2, b"x" * 10_000)
        await said.until(lambda: said.rejected)
        await journal.close()
    assert said.fatal == []
    again = Journal(tmp_path / "j")
    assert [job[0] for job in again.found.unfinished()] == [1]
    assert again.found.next_sequence > 2
    again.abandon()


# The writer.


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGINT])
@on_a_loop_with
async def test_a_writer_that_dies_is_followed_by_another_and_signals_of_the_server_do_not_end_it(
    tmp_path: Path, number: int
) -> None:
    async with opened(tmp_path / "j") as (journal, said):
        submit(journal, 1)
        await said.until(lambda: said.committed == 1)
        before = journal.delivery.link.pid
        os.kill(before, number)
        submit(journal, 2)
        await said.until(lambda: said.committed == 2)
        if number in (signal.SIGKILL, signal.SIGSEGV):
            assert journal.delivery.link.pid != before
            assert journal.writer_restarts == 1
        else:
            assert journal.writer_restarts == 0
        assert said.fatal == []
    assert [job[0] for job in contents(tmp_path / "j")[0]] == [1, 2]


@on_a_loop
async def test_each_change_is_made_once_however_often_writers_are_killed(tmp_path: Path) -> None:
    chance, sequence, kills = random.Random(3), 0, 0
    async with opened(tmp_path / "j") as (journal, said):
        while kills < 6:
            for _ in range(chance.randrange(1, 40)):
                sequence += 1
                submit(journal, sequence, b"x" * chance.randrange(3000))
                # It would add an attempt for each time that it is committed.
                if sequence > 50:
                    end(journal, sequence - 50, sequence - 50)
            await asyncio.sleep(chance.choice((0, 0, 0.001)))
            if chance.random() < 0.02:
                with suppress(ProcessLookupError):
                    os.kill(journal.delivery.link.pid, signal.SIGKILL)
                kills += 1
                await asyncio.sleep(chance.uniform(0, 0.4))
        await said.until(lambda: said.committed == journal.appended)
        assert (said.fatal, said.rejected) == ([], [])
    jobs = contents(tmp_path / "j")[0]
    assert [job.sequence for job in jobs] == list(range(1, sequence + 1))
    assert [job.place for job in jobs] == [*range(1, sequence - 49), *[None] * 50]


@on_a_loop
async def test_a_writer_that_is_killed_when_the_journal_closes_leaves_nothing_undone(tmp_path: Path) -> None:
    journal, said = Journal(tmp_path / "j"), Said()
    journal.run(asyncio.get_running_loop(), said.commit, said.full, said.died)
    for sequence in range(1, 3000):
        submit(journal, sequence, b"x" * 2000)
    closing = asyncio.create_task(journal.close())
    await asyncio.sleep(0)
    os.kill(journal.delivery.link.pid, signal.SIGKILL)
    await closing
    assert len(contents(tmp_path / "j")[0]) == 2999


def test_a_writer_that_dies_each_time_is_fatal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main(jumping: virtual_time.Jumping) -> None:
        async with opened(tmp_path / "j") as (journal, said):
            begun = jumping.now
            with monkeypatch.context() as patch:
                patch.setattr(WriterLink, "module", "tests.core.journal.nowhere")
                submit(journal, 1)
                os.kill(journal.delivery.link.pid, signal.SIGKILL)
                # In a thread: a timer of the loop would not wait for the processes.
                assert await asyncio.to_thread(said.has_died.wait, 20)
            assert said.fatal == [f"{tmp_path}/j: cannot be written: its writer ended with exit code 1"]
            assert delivery.DYING_S < jumping.now - begun < 2 * delivery.DYING_S
            submit(journal, 2)
        assert len(said.fatal) == 1

    virtual_time.run(main)
    assert "ModuleNotFoundError" in capfd.readouterr().err


@on_a_loop
async def test_a_change_larger_than_what_the_socket_holds_arrives_whole(tmp_path: Path) -> None:
    body = random.Random(1).randbytes(8 << 20)
    async with opened(tmp_path / "j") as (journal, said):
        submit(journal, 1, b'"x"')
        end(journal, 1, 1, body)
        submit(journal, 2)
        await asyncio.sleep(0)
        submit(journal, 3)
        await said.until(lambda: said.committed == journal.appended)
        assert await journal.reader.result(1) == ("text/plain", body)
    assert [job[0] for job in contents(tmp_path / "j")[0]] == [1, 2, 3]


@on_a_loop
async def test_what_raises_together_is_not_appended(tmp_path: Path) -> None:
    async with opened(tmp_path / "j") as (journal, said):
        submit(journal, 1)
        with suppress(KeyError), journal.together():
            submit(journal, 2)
            raise KeyError
        submit(journal, 3)
        assert journal.appended == 2
        await said.until(lambda: said.committed == 2)
    assert [job[0] for job in contents(tmp_path / "j")[0]] == [1, 3]


# Damage.


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal with all kinds of rows, large ones too, as it is while it is open; tests copy it."""
    folder = tmp_path_factory.mktemp("filled")
    original = folder / "original" / "j"

    async def fill(numbers: range) -> None:
        async with opened(original) as (journal, said):
            for sequence in numbers:
                payload = b"p" * (9000 if sequence % 100 == 0 else 40)
                submit(journal, sequence, payload, f"k{sequence}" if sequence % 3 else None)
                if sequence % 4:
                    end(journal, sequence, sequence, b"%d" % sequence * (3000 if sequence % 50 == 1 else 3))
                if sequence % 100 == 0:
                    await said.until(lambda: said.committed == journal.appended)
            if numbers[0] > 1:
                journal.expire([100] * len(State), 0.0, 0, 0.0)
                await asyncio.to_thread(expired, journal, 75)
                submit(journal, 1501)
                await said.until(lambda: said.committed == journal.appended)
                copied(original, folder / "base")

    original.parent.mkdir()
    # What came before is in the file, what comes after in its log.
    asyncio.run(fill(range(1, 901)))
    asyncio.run(fill(range(901, 1501)))
    return folder / "base" / "j"


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "closed"])
def test_damage_is_noticed_at_the_start_or_harmless(tmp_path: Path, filled: Path, killed: bool) -> None:
    path = copied(filled, tmp_path / "base")
    if not killed:
        contents(path)
    pristine = contents(copied(path, tmp_path / "copy"))
    files = sorted(name for name in ("j", "j-mark", "j-wal") if (path.parent / name).stat().st_size)
    assert files == (["j", "j-mark", "j-wal"] if killed else ["j", "j-mark"])
    chance = random.Random(1)
    refused = 0
    for number in range(100):
        damaged = copied(path, tmp_path / "copy")
        what = damage(damaged.parent / chance.choice(files), chance, cut=number % 4 == 0)
        found = contents_or_refusal(damaged)
        if isinstance(found, str):
            refused += 1
            assert str(damaged.parent) in found
        else:
            assert found == pristine, f"silently short: {what}"
    # Some of each file is not in use, or is the file's own spare part.
    assert refused > 40


def contents_or_refusal(path: Path) -> object:
    try:
        return contents(path)
    except JournalError as error:
        return str(error)


def damage(file: Path, chance: random.Random, cut: bool) -> str:
    data = bytearray(file.read_bytes())
    at = chance.randrange(len(data))
    if cut:
        file.write_bytes(data[:at])
        return f"{file.name} cut at {at} of {len(data)}"
    data[at] ^= 1 << chance.randrange(8)
    file.write_bytes(data)
    return f"{file.name} flipped at {at} of {len(data)}"


def test_a_log_that_is_short_in_mid_checkpoint_is_noticed(tmp_path: Path) -> None:
    found = Found(tmp_path / "j", "full")
    file, connection = found.file, found.connection
    for sequence in range(1, 6):
        assert file.commit([submitted(sequence, b"x" * 8000)], sequence)
    frames = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0]
    file.mark.checkpoint(file.commits, frames)
    # All of it is in the file already; a real one would be there in part.
    connection.wal_checkpoint()
    path = copied(tmp_path / "j", tmp_path / "killed")
    file.mark.checkpoint(file.commits, 0)
    found.close()
    log = path.with_name("j-wal")
    whole = written(log)
    log.write_bytes(whole[:-1])
    with pytest.raises(JournalError, match="cut short in mid-checkpoint"):
        Journal(path)
    log.write_bytes(whole)
    assert len(contents(path)[0]) == 5


@pytest.mark.parametrize("name", ["j", "j-wal", "j-mark"])
def test_a_file_that_is_gone_is_missed(tmp_path: Path, filled: Path, name: str) -> None:
    path = copied(filled, tmp_path / "base")
    (path.parent / name).unlink()
    with pytest.raises(JournalError, match=r"missing"):
        Journal(path)


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "closed"])
@pytest.mark.parametrize("data", [b"\0" * 40, b"short"])
def test_a_damaged_mark_names_the_way_out_which_hides_no_loss(
    tmp_path: Path, filled: Path, data: bytes, killed: bool
) -> None:
    path = copied(filled, tmp_path / "base")
    if not killed:
        contents(path)
    pristine = contents(copied(path, tmp_path / "copy"))
    mark = path.with_name("j-mark")
    mark.write_bytes(data)
    with pytest.raises(JournalError, match=rf"^{mark}: is damaged: .* Delete it and start again\."):
        Journal(path)
    mark.unlink()
    if killed:
        with pytest.raises(JournalError, match=r"not closed: its losses cannot be known.*headway journal recover"):
            Journal(path)
    else:
        assert contents(path) == pristine


def test_a_refused_file_stays_as_it_is_and_recover_saves_what_can_be_read(tmp_path: Path, filled: Path) -> None:
    jobs, keys, results = contents(copied(filled, tmp_path / "copy"))
    path = tmp_path / "copy" / "j"
    data = bytearray(path.read_bytes())
    data[40 * 4096 + 2000] ^= 1
    data[60 * 4096 + 2000] ^= 1
    path.write_bytes(data)
    with pytest.raises(JournalError, match=r"damaged.*headway journal recover"):
        Journal(path)
    assert path.read_bytes() == data
    assert len(report.check(path)) == 1
    saved = salvage.recover(path, tmp_path / "new")
    assert saved.ids_kept
    assert 0 < saved.doubtful < 300
    # One row on each damaged page is the one with the wrong bit.
    assert len(jobs) - 2 <= saved.jobs <= len(jobs)
    assert len(keys) - 2 <= saved.keys <= len(keys)
    assert contents(tmp_path / "new")[0]
    # The counts are those of before: jobs that retention has deleted are among them.
    found = Found(tmp_path / "new", "full")
    assert (found.tally()["sleep"][State.SUCCEEDED], found.last_place[State.SUCCEEDED]) == (1125, 1499)
    found.close()
    assert len(results) - 2 <= saved.results <= len(results)
    with pytest.raises(JournalError, match="exists"):
        salvage.recover(path, tmp_path / "new")


def test_a_page_in_the_place_of_another_is_refused_in_a_line_though_its_checksum_is_right(
    tmp_path: Path, filled: Path
) -> None:
    path = copied(filled, tmp_path / "copy")
    contents(path)
    with closing(schema.open_reader(path)) as connection:
        roots: dict[str, int] = dict(connection.execute("SELECT name, rootpage FROM sqlite_schema"))
    data = bytearray(path.read_bytes())
    index, other = (slice((roots[name] - 1) * 4096, roots[name] * 4096) for name in ("unsuccessful", "minute"))
    data[index] = data[other]
    path.write_bytes(data)
    registry = Registry()
    registry.add(lambda _: None, Options(name="sleep"))
    with pytest.raises(JournalError, match=r"copy/j: damaged .*headway journal recover"):
        open_engine(Config(journal=JournalSection(path=str(path))), registry, lambda _: None)


@on_a_loop
async def test_recover_saves_switches_attempts_logs_and_the_audit_log(tmp_path: Path) -> None:
    async with opened(tmp_path / "j") as (journal, said):
        submit(journal, 1)
        held = ("sleep", "hold", "open", None, "the printer burns")
        attempts = [PastAttempt(number, 1.0, 2.0, "loop", Reason.ERROR, "", "no") for number in (1, 2)]
        journal.note((Kind.HOLD, *held))
        for past in attempts:
            journal.note((Kind.ATTEMPT, 1, past.number, encode_attempt(past)))
        journal.note((Kind.LOG, 1, 0, b"text", 8))
        for what in ("cancelJob", "switchTask"):
            journal.note((Kind.ACT, True, audit.encode(5.0, Act(what)), 1))
        await said.until(lambda: said.committed == journal.appended)
    salvage.recover(tmp_path / "j", tmp_path / "new")
    found = Found(tmp_path / "new", "full")
    assert found.holds() == [held]
    found.close()
    reading = reader.Reader(tmp_path / "new")
    assert await reading.attempts(1) == attempts
    assert (await reading.log(1, 8)).text() == b"text"
    assert await reading.audit(0, 9) == [AuditEntry(2, 5.0, Act("switchTask"))]
    reading.close()


async def unplugged(folder: Path) -> Path:
    """Return a journal whose last commits were lost with the power."""
    async with opened(folder / "j", "normal") as (journal, said):
        for sequence in range(1, 6):
            submit(journal, sequence)
            await said.until(lambda: said.committed == journal.appended)
        path = copied(folder / "j", folder / "unplugged")
    log = path.with_name("j-wal")
    log.write_bytes(written(log)[:-5000])
    return path


def written(log: Path) -> bytes:
    """What is in a log, without the room that it has taken."""
    frames = -(-(len(log.read_bytes().rstrip(b"\0")) - 32) // FRAME_BYTES)
    return log.read_bytes()[: 32 + frames * FRAME_BYTES]


@on_a_loop
async def test_normal_may_lose_the_last_commits_with_the_power_and_says_how_many(tmp_path: Path) -> None:
    path = await unplugged(tmp_path)
    with pytest.raises(JournalError, match=r"the last . acknowledged commits are missing"):
        Journal(path)
    journal = Journal(path, "normal")
    assert 0 < journal.found.lost <= 2
    assert journal.found.next_sequence > 5
    journal.abandon()


def test_a_server_tells_what_normal_has_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = asyncio.run(unplugged(tmp_path))
    registry = Registry()
    registry.add(lambda _: None, Options(name="sleep"))
    config = Config(journal=JournalSection(path=str(path), sync="normal"))
    asyncio.run(open_engine(config, registry, lambda _: None).close())
    assert "acknowledged commits are missing" in caplog.text


# Refusals.


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j"
    Journal(path).abandon()
    connection = schema.connect(path, apsw.SQLITE_OPEN_READWRITE)
    connection.pragma("user_version", schema.VERSION + 1)
    connection.close()
    before = path.read_bytes()
    with pytest.raises(
        JournalError,
        match=rf"j: has schema {schema.VERSION + 1} and this program knows {schema.VERSION}\. Start the newer",
    ):
        Journal(path)
    assert path.read_bytes() == before


def test_a_schema_with_other_ids_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j"
    Journal(path).abandon()
    connection = schema.connect(path, apsw.SQLITE_OPEN_READWRITE)
    connection.pragma("user_version", min(schema.MIGRATIONS) - 1)
    connection.close()
    before = path.read_bytes()
    # Its ids may be others, so it is not read for people either.
    for use in (Journal, schema.open_reader, lambda path: salvage.recover(path, tmp_path / "new")):
        with pytest.raises(JournalError, match="has schema 2, with ids that this program does not know"):
            use(path)
    assert not (tmp_path / "new").exists()
    assert path.read_bytes() == before


# From the schema of now to that of before there was an audit log.
BACK_TO_6 = "DROP TABLE audit; PRAGMA user_version = 6;"
# From there to that of before there was a history.
BACK_TO_5 = f"{BACK_TO_6} DROP TABLE minute; PRAGMA user_version = 5;"
# From there to that of before outcomes were kept by rules of their own.
BACK_TO_4 = f"""{BACK_TO_5} DROP TRIGGER expire; DROP INDEX ends; DROP INDEX untils; ALTER TABLE job DROP COLUMN until;
    DROP TABLE attempt; DROP TABLE log; DROP TABLE hold; DROP TABLE tally; DROP TABLE outcome;
    CREATE TRIGGER expire AFTER DELETE ON job BEGIN DELETE FROM result WHERE sequence = old.sequence; END;
    CREATE INDEX ends ON job (place, ended) WHERE place IS NOT NULL;
    PRAGMA user_version = 4;"""
# From there to that of before the terms of a job were one value.
BACK_TO_3 = f"""{BACK_TO_4} ALTER TABLE job ADD COLUMN timeout REAL NOT NULL DEFAULT 0;
    ALTER TABLE job ADD COLUMN retries INTEGER NOT NULL DEFAULT 0; ALTER TABLE job ADD COLUMN deadline REAL;
    UPDATE job SET timeout = terms ->> 'timeout_s', retries = terms ->> 'retries',
        deadline = submitted + (terms ->> 'deadline_s');
    ALTER TABLE job DROP COLUMN terms;
    PRAGMA user_version = 3"""


def test_terms_of_schema_3_are_migrated(tmp_path: Path) -> None:
    path, terms = tmp_path / "j", [Terms(30.0, 2, 90.5), Terms(1.5, 0)]

    async def before() -> None:
        async with opened(path) as (journal, said):
            for sequence, one in enumerate(terms, 1):
                submit(journal, sequence, terms=one)
            await said.until(lambda: said.committed == 2)

    asyncio.run(before())
    connection = schema.connect(path, apsw.SQLITE_OPEN_READWRITE)
    connection.execute(BACK_TO_3).fetchall()
    connection.close()
    with pytest.raises(
        JournalError, match=rf"has schema 3, not {schema.VERSION}\. Start the server on it once to migrate it"
    ):
        schema.open_reader(path)
    journal = Journal(path)
    assert [decode_terms(saved.terms) for saved in journal.found.unfinished()] == terms
    assert journal.found.connection.pragma("user_version") == schema.VERSION
    journal.abandon()
    schema.open_reader(path).close()


def test_a_journal_of_schema_5_goes_on_with_an_empty_history(tmp_path: Path) -> None:
    path = tmp_path / "j"
    Journal(path).abandon()
    connection = schema.connect(path, apsw.SQLITE_OPEN_READWRITE)
    connection.execute(BACK_TO_5).fetchall()
    connection.close()
    journal = Journal(path)
    assert journal.found.minutes() == []
    assert journal.found.connection.pragma("user_version") == schema.VERSION
    journal.abandon()


@on_a_loop
async def test_a_journal_of_schema_6_goes_on_with_an_empty_audit_log(tmp_path: Path) -> None:
    path = tmp_path / "j"
    Journal(path).abandon()
    connection = schema.connect(path, apsw.SQLITE_OPEN_READWRITE)
    connection.execute(BACK_TO_6).fetchall()
    connection.close()
    async with opened(path) as (journal, said):
        assert await journal.reader.audit(0, 10) == []
        journal.note((Kind.ACT, True, audit.encode(5.0, Act("cancelJob")), 9))
        await said.until(lambda: said.committed == journal.appended)
        assert await journal.reader.audit(0, 10) == [AuditEntry(1, 5.0, Act("cancelJob"))]


def test_jobs_of_schema_4_are_numbered_by_outcome_counted_and_kept_as_it_was_said_of_them(tmp_path: Path) -> None:
    path = tmp_path / "j"

    async def before() -> None:
        async with opened(path) as (journal, said):
            for sequence in range(1, 8):
                submit(journal, sequence)
                if sequence < 7:
                    end(journal, sequence, sequence)
            await said.until(lambda: said.committed == journal.appended)

    asyncio.run(before())
    connection = schema.connect(path, apsw.SQLITE_OPEN_READWRITE)
    connection.execute(BACK_TO_4).fetchall()
    connection.execute("UPDATE job SET state = ? WHERE sequence IN (2, 5)", (State.FAILED,))
    connection.close()
    seconds = Retention.same(100, 500.0)
    journal = Journal(path, retention=seconds)
    jobs = list(chain.from_iterable(reader.jobs(journal.found.connection)))
    assert [job.place for job in jobs] == [1, 1, 2, 3, 2, 4, None]
    assert [job.until and job.until - 1000.0 for job in jobs] == [501.0, 502.0, 503.0, 504.0, 505.0, 506.0, None]
    assert [journal.found.last_place[state] for state in (State.SUCCEEDED, State.FAILED, State.CANCELLED)] == [4, 2, 0]
    assert journal.found.given_up == [0] * len(State)
    assert [journal.found.tally()["sleep"][state] for state in (State.SUCCEEDED, State.FAILED)] == [4, 2]
    journal.abandon()


@pytest.mark.parametrize("content", [b"", b"jobs:\n", b"SQLite format 3\0" + bytes(5000)])
def test_a_file_that_is_not_ours_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "j"
    path.write_bytes(content)
    with pytest.raises(JournalError, match="j: is not a journal of Headway"):
        Journal(path)
    assert path.read_bytes() == content


@pytest.mark.long
def test_one_process_at_a_time(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    with pytest.raises(JournalError, match="another process has this journal open"):
        Journal(tmp_path / "j")
    assert "another process has this journal open" in child("lock", tmp_path / "j")
    # Reading is for all.
    assert report.check(tmp_path / "j") == []
    assert "another process has this journal open" in child("lock", tmp_path / "j")
    journal.abandon()
    assert child("lock", tmp_path / "j") == "opened\n"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"nowhere/j"):
        Journal(tmp_path / "nowhere" / "j")


@on_a_loop
async def test_what_people_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "j"
    async with opened(path) as (journal, said):
        submit(journal, 1, b'{"a": 1.50}')
        submit(journal, 2)
        end(journal, 2, 1, b"\xff")
        await said.until(lambda: said.committed == 3)
        shown = report.stats(path)
        assert (shown["jobs"], shown["by_state"], shown["result_bytes"]) == (
            2,
            {"queued": 1, "succeeded": 1},
            1,
        )
        out = BytesIO()
        assert report.export(path, out) == 2
        lines = out.getvalue().splitlines()
        assert b'{"a": 1.50}' in lines[0]
        assert orjson.loads(lines[1])["result"] == {"media_type": "text/plain", "hex": "ff"}
