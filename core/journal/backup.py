"""A copy of a whole journal, of one moment, made while a server writes to it.

The file is copied in one read transaction. Meanwhile the server's log cannot start over, so it
grows by the commits of that time: a few seconds for 100 MB. The copy is checked like a
journal at a start, and says of itself that it is one. It has another number than its journal, so
the log and the mark of that cannot be taken for its own.

The attempts come after it: of a job that has not finished they count each attempt that began, and
at most some that began later. docs/adr/0018 has the reasons, docs/deploy.md the way back.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

import apsw
from headway.core.errors import CopyError, JournalError
from headway.core.journal import attempts, schema, watermark
from headway.core.journal.reader import one


def backup(path: Path, out: Path) -> int:
    """Copy the journal at ``path`` to ``out``, and its attempts beside that. Return the number of jobs.

    A kill leaves no file called ``out``, or a whole one that is on the disk. Raises JournalError.
    """
    if out.exists():
        raise CopyError(f"{out}: exists. Name a file that does not exist")
    # A name of its own: another backup to the same file may run beside this one.
    new = out.with_name(f"{out.name}-{secrets.token_hex(4)}-new")
    try:
        try:
            jobs = _copy(path, new)
            _copy_attempts(path, attempts.beside(new))
            attempts.beside(new).rename(attempts.beside(out))
            # Unlike a rename, it fails if another file came meanwhile.
            os.link(new, out)
            watermark.sync_folder(out)
        finally:
            for end in ("", "-attempts", "-wal", "-shm", "-journal"):
                new.with_name(f"{new.name}{end}").unlink(missing_ok=True)
    except FileExistsError:
        raise CopyError(f"{out}: exists. Name a file that does not exist") from None
    except OSError as error:
        raise CopyError(f"{out}: cannot be written: {error.strerror}") from None
    except apsw.Error as error:
        raise JournalError(f"{path}: cannot be copied to {out}: {' '.join(str(error).split())}") from None
    return jobs


def _copy(path: Path, new: Path) -> int:
    """Copy the file of the journal to ``new``, and bring it to the disk. Return the number of jobs."""
    _make(new, b"")
    source = schema.open_reader(path)
    try:
        target = schema.connect(new, apsw.SQLITE_OPEN_READWRITE)
        try:
            # First a page with the room for checksums: pages that are written before it get none.
            target.reserve_bytes("main", schema.CHECKSUM_BYTES)
            target.execute(f"PRAGMA page_size = {schema.PAGE_BYTES}; CREATE TABLE first (page)").fetchall()
            with target.backup("main", source, "main") as pages:
                # All in one step: a copy in parts would begin anew whenever the server commits.
                pages.step(-1)
        finally:
            target.close()
    finally:
        source.close()
    # Opened again: now its pages are read from the file.
    copied = schema.connect(new, apsw.SQLITE_OPEN_READWRITE)
    try:
        copied.execute("PRAGMA synchronous = FULL; PRAGMA fullfsync = 1").fetchall()
        schema.verify(new, copied)
        copied.execute(
            "UPDATE meta SET journal = ?, clean = ? WHERE id = 1", (secrets.randbits(62), schema.COPY)
        ).fetchall()
        jobs = one(copied, "SELECT count(*) FROM job")
        copied.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        copied.close()
    _sync(new)
    return jobs


def _copy_attempts(path: Path, new: Path) -> None:
    """Copy the attempts of the journal to ``new``, and bring them to the disk. A journal may have none yet."""
    data = b""
    with suppress(FileNotFoundError):
        data = attempts.beside(path).read_bytes()
    _make(new, data)
    _sync(new)


def _make(path: Path, data: bytes) -> None:
    """Make a file that nobody else may ever read."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(data)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
