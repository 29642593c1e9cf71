"""The journal's file: its tables, how it is opened, and when it is refused.

``job`` has a row for each job. ``result`` has the bodies by themselves, so the rows stay small and
a start need not read them. ``keyed`` has the idempotency keys, which outlive their jobs. ``gone``
counts the jobs of a batch that did not succeed and whose rows were deleted, while others are kept.
``tally`` counts the jobs that ever ended, deleted ones too. ``outcome`` has by outcome the place of
the job that ended last, how many are kept, and the place up to which all were given up under
earlier settings: they do not come back under a larger number. The tables of notes have rare facts
(see notes), ``minute`` is the history, and ``audit`` the audit log. ``run`` has the salt of each
start (see ids). ``meta`` is one row. It has the server's secret, three counters and the data of the
journal's clock (see clock). The counters are the commits, the last change that is in them (see
messages), and the highest sequence number ever committed, which deleting rows does not lower.

Every page bears a checksum (SQLite's own cksumvfs, part of apsw), checked at each read. SQLite
alone would not notice a flipped bit in a row. ``open_checked`` reads every page once and compares
the count of commits with the mark (see watermark). So a file that is damaged, cut short or older
than the acknowledgements is refused before anything is written to it. The parts that SQLite would
"repair" on the way are still there for ``recover``. It costs about a second a million jobs.

**When the schema changes**: raise VERSION and add to MIGRATIONS the SQL that takes the version
before it to the new one. A file of a newer version is refused, and so is an older one from which no
SQL leads here. Another older one is migrated in one transaction.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import quote

import apsw
import msgspec
from apsw import sqlite_extra
from headway.core import ids
from headway.core.errors import JournalError
from headway.core.files import opened
from headway.core.ids import COUNT_BITS, COUNT_MASK, SECRET_BYTES
from headway.core.job import State
from headway.core.journal import watermark

Sync = Literal["full", "normal"]

# The tables of notes (see notes). ``until``: NULL if a hold has no end. A log has the
# pieces of its beginning and of its end, and the place of the first byte of each.
NOTED = """
CREATE TABLE attempt (sequence INTEGER NOT NULL, number INTEGER NOT NULL, told BLOB NOT NULL,
    PRIMARY KEY (sequence, number)) STRICT;
CREATE TABLE log (sequence INTEGER NOT NULL, place INTEGER NOT NULL, text BLOB NOT NULL,
    PRIMARY KEY (sequence, place)) STRICT;
CREATE TABLE hold (task TEXT PRIMARY KEY, dispatch TEXT NOT NULL, intake TEXT NOT NULL, until REAL,
    reason TEXT NOT NULL) STRICT;
"""
# The minutes of the history (core/history).
MINUTES = "CREATE TABLE minute (number INTEGER PRIMARY KEY, told BLOB NOT NULL) STRICT;\n"
# The audit log (core/audit). SQLite gives each entry the number after the highest one, which is never deleted.
AUDIT = "CREATE TABLE audit (number INTEGER PRIMARY KEY, told BLOB NOT NULL) STRICT;\n"
SUCCEEDED, FAILED, CANCELLED = int(State.SUCCEEDED), int(State.FAILED), int(State.CANCELLED)
# The tables and indexes by which retention is kept, and the counts that outlive it.
RETAINED = f"""
CREATE TABLE tally (task TEXT PRIMARY KEY, succeeded INTEGER NOT NULL, failed INTEGER NOT NULL,
    cancelled INTEGER NOT NULL) STRICT;
CREATE TABLE outcome (state INTEGER PRIMARY KEY, place INTEGER NOT NULL, kept INTEGER NOT NULL,
    given_up INTEGER NOT NULL) STRICT;
INSERT INTO outcome VALUES ({SUCCEEDED}, 0, 0, 0), ({FAILED}, 0, 0, 0), ({CANCELLED}, 0, 0, 0);
CREATE INDEX ends ON job (state, place) WHERE place IS NOT NULL;
CREATE INDEX untils ON job (until) WHERE until IS NOT NULL;
"""  # noqa: S608
EXPIRE = """
CREATE TRIGGER expire AFTER DELETE ON job BEGIN
    DELETE FROM result WHERE sequence = old.sequence;
    DELETE FROM attempt WHERE sequence = old.sequence;
    DELETE FROM log WHERE sequence = old.sequence;
END;
"""
# The counts, from the jobs that are kept. Of them none is given up.
COUNT_ENDED = f"""
INSERT OR IGNORE INTO tally SELECT task, sum(state = {SUCCEEDED}), sum(state = {FAILED}), sum(state = {CANCELLED})
    FROM job WHERE place IS NOT NULL GROUP BY task;
UPDATE outcome SET place = coalesce((SELECT max(place) FROM job WHERE job.state = outcome.state AND place > 0), 0);
UPDATE outcome SET kept = place
"""  # noqa: S608

# 1 and 2 had ids of other kinds (before 0.1.0). These look like ids that were never issued.
VERSION = 7
# From a version → the SQL that leads to the next.
MIGRATIONS = {
    3: """ALTER TABLE job ADD COLUMN terms BLOB NOT NULL DEFAULT x'';
    UPDATE job SET terms = CAST(json_object('timeout_s', timeout, 'retries', retries,
        'deadline_s', deadline - submitted) AS BLOB);
    ALTER TABLE job DROP COLUMN timeout; ALTER TABLE job DROP COLUMN retries; ALTER TABLE job DROP COLUMN deadline""",
    # A place was the number among all that ended, and all were kept for as long. Jobs that have ended
    # are kept as it was said of them.
    4: f"""{NOTED}
    ALTER TABLE job ADD COLUMN until REAL;
    DROP INDEX ends;
    UPDATE job SET place = found.number, until = ended + :seconds FROM (SELECT sequence,
        row_number() OVER (PARTITION BY state ORDER BY place) AS number FROM job WHERE place IS NOT NULL) AS found
        WHERE job.sequence = found.sequence;
    {RETAINED}
    {COUNT_ENDED};
    DROP TRIGGER expire; {EXPIRE}""",  # noqa: S608
    5: MINUTES,
    6: AUDIT,
}
# Sequence numbers left out after a kill. At most this many submissions may be uncommitted at once.
# Seam: tests that list jobs after many kills make it small.
SKIP = 1 << 20
# Numbers follow the clock (see ``numbers_by``): so many a second, more than a journal commits, from
# the first second of 2026 on, and up to a bound that leaves most of all numbers.
# Seam: tests make it 0, for numbers that begin at 1 and lie close together.
NUMBERS_A_SECOND = ids.NUMBERS_A_SECOND
NUMBERS_BY_CLOCK_MOST = 1 << 46
# In ``meta.clean``: not closed, closed, and a copy by ``headway journal backup``.
OPEN, CLOSED, COPY = 0, 1, 2
# Milliseconds to wait for a lock that another connection of SQLite's has for a moment.
BUSY_MS = 5000
# In the header of the file at bytes 68 to 71. user_version is at 60 to 63 (sqlite.org/fileformat).
APPLICATION = int.from_bytes(b"Hdwy", "big")
PAGE_BYTES = 4096
# The end of each page, its checksum.
CHECKSUM_BYTES = 8
MAGIC = b"SQLite format 3\0"

# Times are of the journal's clock, in seconds. NULL in ``job``: ``due`` of a job that was never
# delayed, ``started`` of one that has not begun, ``ended``, ``place`` and ``until`` of an active one,
# ``payload`` of one that succeeded or was cancelled, or whose error was deleted, ``size`` of one that
# never had a result or an error, ``batch`` of one that came alone. Otherwise ``batch`` is the number
# of its batch (core/board/outcomes).
TABLES = f"""
CREATE TABLE meta (id INTEGER PRIMARY KEY, journal INTEGER NOT NULL, secret BLOB NOT NULL,
    commits INTEGER NOT NULL, high INTEGER NOT NULL, clean INTEGER NOT NULL,
    boot TEXT NOT NULL, epoch REAL NOT NULL, skew REAL NOT NULL, changes INTEGER NOT NULL) STRICT;
CREATE TABLE run (first INTEGER PRIMARY KEY, salt BLOB NOT NULL) STRICT;
CREATE TABLE job (sequence INTEGER PRIMARY KEY, state INTEGER NOT NULL, attempt INTEGER NOT NULL,
    reason INTEGER NOT NULL, priority INTEGER NOT NULL, task TEXT NOT NULL, submitted REAL NOT NULL, started REAL,
    due REAL, ended REAL, place INTEGER, size INTEGER, terms BLOB NOT NULL, payload BLOB, batch INTEGER,
    until REAL) STRICT;
CREATE TABLE result (sequence INTEGER PRIMARY KEY, media TEXT NOT NULL, body BLOB NOT NULL) STRICT;
CREATE TABLE keyed (sequence INTEGER PRIMARY KEY, key TEXT NOT NULL, digest BLOB NOT NULL, submitted REAL NOT NULL,
    batch INTEGER) STRICT;
CREATE TABLE gone (batch INTEGER PRIMARY KEY, failed INTEGER NOT NULL, cancelled INTEGER NOT NULL) STRICT;
CREATE INDEX unsuccessful ON job (batch, state) WHERE batch IS NOT NULL AND state IN ({FAILED}, {CANCELLED});
{NOTED}{MINUTES}{AUDIT}{RETAINED}{EXPIRE}
CREATE TRIGGER expire_of_batch AFTER DELETE ON job WHEN old.batch IS NOT NULL BEGIN
    INSERT INTO gone SELECT old.batch, old.state = {FAILED}, old.state = {CANCELLED}
        WHERE old.state IN ({FAILED}, {CANCELLED}) ON CONFLICT DO UPDATE
        SET failed = failed + excluded.failed, cancelled = cancelled + excluded.cancelled;
    DELETE FROM gone WHERE batch = old.batch AND NOT EXISTS (SELECT 1 FROM job WHERE
        sequence >= old.batch >> {COUNT_BITS} AND sequence < (old.batch >> {COUNT_BITS}) + (old.batch & {COUNT_MASK}));
END;
"""  # noqa: S608


def numbers_by(seconds: float) -> int:
    """Return a number above all that any journal has given by a time of day.

    A start at that time gives only higher ones. So a number is not given twice, even if the files
    are old copies: the numbers that their journal gave since are lower.
    """
    number = int((seconds - ids.NUMBERS_BEGIN_S) * NUMBERS_A_SECOND)
    return number if 0 < number < NUMBERS_BY_CLOCK_MOST else 0


class ServerRun(NamedTuple):
    """A run of the server: the salt of its ids from number ``first`` on, and the journal's clock (see clock).

    ``kept``: by State, how many jobs of an outcome it keeps. ``offset``: that of core/wall.py.
    """

    first: int
    salt: bytes
    boot: str
    epoch: float
    kept: tuple[int, ...]
    offset: float


class Meta:
    """The row of ``meta``, as it was when it was read."""

    __slots__ = ("boot", "changes", "clean", "commits", "copied", "epoch", "high", "journal", "secret", "skew")

    def __init__(self, connection: apsw.Connection) -> None:
        columns = "journal, secret, commits, high, clean, boot, epoch, skew, changes"
        row = connection.execute(f"SELECT {columns} FROM meta WHERE id = 1").fetchone()  # noqa: S608
        if row is None:
            raise apsw.CorruptError("the row of meta is gone")
        self.journal: int = row[0]
        self.secret: bytes = row[1]
        self.commits: int = row[2]
        self.high: int = row[3]
        # Whether the last process closed the journal, rather than being killed.
        self.clean = row[4] != OPEN
        # Whether this is a copy that no process has opened.
        self.copied = row[4] == COPY
        # The data of the journal's clock (see clock).
        self.boot: str = row[5]
        self.epoch: float = row[6]
        self.skew: float = row[7]
        self.changes: int = row[8]


# A text of several statements runs on only while its rows are fetched, and a PRAGMA's answer is a
# row. Hence .fetchall().


def connect(path: Path, flags: int) -> apsw.Connection:
    """Open ``path`` with page checksums."""
    if "cksmvfs" not in apsw.vfs_names():
        try:
            sqlite_extra.load(apsw.Connection(":memory:"), "cksumvfs")
        except (sqlite_extra.NotAvailable, LookupError, apsw.Error):
            raise JournalError("this build of apsw has no cksumvfs. Install its wheel: pip install apsw") from None
    return apsw.Connection(str(path), flags=flags, vfs="cksmvfs")


def open_reader(path: Path) -> apsw.Connection:
    """Open ``path`` for reading beside a writer. Raises JournalError if it is no journal that we know."""
    with reading(path):
        connection = connect(path, apsw.SQLITE_OPEN_READONLY)
        try:
            connection.set_busy_timeout(1000)
            check_open(path, connection)
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise JournalError if ``path`` cannot be read here, which says what to do if it is damaged.

    A page may be whole, and not be the one that belongs there.
    """
    try:
        yield
    except (apsw.Error, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise JournalError(_unreadable(path, error)) from None


def _unreadable(path: Path, error: Exception) -> str:
    # To SQLite a wrong checksum is an error of reading.
    is_damage = isinstance(error, (apsw.CorruptError, ValueError)) or (
        isinstance(error, apsw.IOError) and getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_DATA
    )
    return damaged(path, error) if is_damage else f"{path}: cannot be read: {' '.join(str(error).split())}"


def damaged(path: Path, why: object) -> str:
    """Return the line of a damaged journal."""
    return f"{path}: damaged ({' '.join(str(why).split())[:200]}). {way_out(path)}"


def way_out(path: Path) -> str:
    """Return what to do about a damaged journal."""
    return f"Save the readable part with: headway journal recover {path} NEW"


def check_open(path: Path, connection: apsw.Connection) -> None:
    """Refuse the same files as ``check_header`` and older ones, when ``path`` is open already.

    Not by reading the file: closing it would give up the locks that SQLite holds on it for this
    process.
    """
    application, version = (int(str(connection.pragma(name))) for name in ("application_id", "user_version"))
    _check_version(path, application, version)
    if version < VERSION:
        raise JournalError(f"{path}: has schema {version}, not {VERSION}. Start the server on it once to migrate it")


def create(path: Path, secret: bytes | None = None, high: int = 0) -> None:
    """Make an empty journal. A kill leaves none, or a whole one."""
    new = path.with_name(f"{path.name}-new")
    for leftover in (new, new.with_name(f"{new.name}-wal"), new.with_name(f"{new.name}-shm")):
        leftover.unlink(missing_ok=True)
    # Nobody else may ever read it. Its log and its shared memory take the mode from it.
    os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = connect(new, apsw.SQLITE_OPEN_READWRITE)
    connection.reserve_bytes("main", CHECKSUM_BYTES)
    connection.execute(
        f"PRAGMA page_size = {PAGE_BYTES}; PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; "
        f"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; BEGIN; {TABLES}"
    ).fetchall()
    connection.execute(
        "INSERT INTO meta VALUES (1, ?, ?, 0, ?, 1, '', 0, 0, 0)",
        (int.from_bytes(os.urandom(8)) >> 2, secret or os.urandom(SECRET_BYTES), high),
    )
    connection.execute("COMMIT")
    connection.close()
    new.rename(path)
    watermark.sync_folder(path)


def open_checked(path: Path, marked: watermark.Marked | None, sync: Sync) -> tuple[apsw.Connection, Meta, int]:
    """Open a journal and make sure that nothing of it is lost. Nothing is written.

    Returns the connection, its meta row, and the number of acknowledged commits that are missing,
    which ``sync: normal`` may lose with the power. Raises JournalError if the file is not ours, too
    new, or damaged.
    """
    size = check_header(path)
    if path.stat().st_size < size and not (marked and marked.frames):
        # SQLite would read zeros there. In mid-checkpoint the log still has those pages.
        raise JournalError(f"{path}: damaged: cut short. {way_out(path)}")
    check_age(path, marked)
    connection = connect(path, apsw.SQLITE_OPEN_READWRITE)
    try:
        # Closing must not write to a file that is refused afterwards.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.set_busy_timeout(BUSY_MS)
        meta = verify(path, connection)
        missing = missing_commits(path, connection, meta, marked)
        if missing and sync == "full":
            raise JournalError(f"{path}: damaged: the last {missing} acknowledged commits are missing. {way_out(path)}")
    except BaseException:
        connection.close()
        raise
    return connection, meta, missing


def check_header(path: Path) -> int:
    """Refuse a file that is no journal, or of an unreadable version, before SQLite touches it.

    Returns the bytes that the file must have at least.
    """
    try:
        with opened(path) as file:
            header = file.read(100)
    except OSError as error:
        raise JournalError(f"{path}: cannot be read: {error.strerror}") from None
    application = int.from_bytes(header[68:72], "big") if header[:16] == MAGIC else 0
    _check_version(path, application, int.from_bytes(header[60:64], "big"))
    # The number of pages counts if it was written by the program that changed the file last.
    return int.from_bytes(header[28:32], "big") * PAGE_BYTES if header[24:28] == header[92:96] else 0


def check_age(path: Path, marked: watermark.Marked | None) -> None:
    """Refuse a file that does not belong to the log and the mark beside it, before SQLite joins them.

    The mark knows the commits that the file has at least without its log. A file that was put back
    from a copy has fewer, or it has another number than the log.
    """
    name, beside = path.name, watermark.beside(path)
    others = f"delete {beside} and {name}-wal, which belong to the journal of before"
    alone = _alone(path)
    if alone is None:
        # Damaged, or in mid-checkpoint. Others see to that.
        return
    if marked is None:
        log = path.with_name(f"{name}-wal")
        if alone.copied and log.exists() and log.stat().st_size:
            raise JournalError(f"{path}: is a restored copy: {others}. Then start again")
        return
    if marked.journal != alone.journal or (not marked.frames and alone.commits < marked.begun):
        raise JournalError(
            f"{path}: is another or an older file than {beside} belongs to. To go on from this one, {others}"
        )


def _alone(path: Path) -> Meta | None:
    """Return the meta row of the file without its log; None if it cannot be read."""
    # Immutable: SQLite looks at no log and takes no lock.
    name, flags = f"file:{quote(str(path.absolute()))}?immutable=1", apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    try:
        with closing(apsw.Connection(name, flags)) as found:
            return Meta(found)
    except apsw.Error:
        return None


def _check_version(path: Path, application: int, version: int) -> None:
    if application != APPLICATION:
        raise JournalError(f"{path}: is not a journal of Headway. Name another file in journal.path")
    if version > VERSION:
        raise JournalError(
            f"{path}: has schema {version} and this program knows {VERSION}. Start the newer program that wrote it"
        )
    if not all(before in MIGRATIONS for before in range(version, VERSION)):
        raise JournalError(
            f"{path}: has schema {version}, with ids that this program does not know. Let the program that wrote it "
            "finish its jobs, then name another file in journal.path"
        )


def verify(path: Path, connection: apsw.Connection) -> Meta:
    """Read every page and return the meta row. Raises JournalError if one is damaged."""
    try:
        found = connection.pragma("quick_check")
        # Known once the first page was read.
        if str(connection.pragma("checksum_verification")) != "1":
            raise JournalError(
                f"{path}: its pages bear no checksums: another program has rewritten it. {way_out(path)}"
            )
        if found == "ok":
            return Meta(connection)
    except (apsw.Error, UnicodeDecodeError) as error:
        found = str(error)
    raise JournalError(damaged(path, found))


def missing_commits(path: Path, connection: apsw.Connection, meta: Meta, marked: watermark.Marked | None) -> int:
    """Return how many acknowledged commits are missing. Raises JournalError if that cannot be known."""
    name = watermark.beside(path)
    if marked is None:
        if meta.clean:
            return 0
        raise JournalError(
            f"{name}: is missing, and the journal was not closed: its losses cannot be known. Put the file back, "
            f"or save the rest with: headway journal recover {path} NEW"
        )
    if marked.journal != meta.journal:
        raise JournalError(f"{name}: belongs to another journal than {path}. Put its own back, or delete it")
    frames = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)[0]
    # Every write counts as a commit. With more commits the checkpoint was over, and the mark is
    # old.
    if frames < marked.frames and meta.commits <= marked.begun:
        raise JournalError(
            f"{path}-wal: damaged: cut short in mid-checkpoint, so pages of different ages are mixed. {way_out(path)}"
        )
    return max(marked.commits - meta.commits, 0)


def migrate(connection: apsw.Connection, seconds: float) -> None:
    """Take an older file to VERSION. ``seconds``: how long jobs are kept that ended before version 5."""
    found = connection.pragma("user_version")
    while found < VERSION:
        sql = f"BEGIN; {MIGRATIONS[found]}; PRAGMA user_version = {found + 1}; COMMIT"
        connection.execute(sql, {"seconds": seconds}).fetchall()
        found += 1
