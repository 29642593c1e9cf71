"""A journal that was damaged is opened with all that was in it, or refused in one line that names it.

An input is damage: its first byte chooses a journal that was closed or one whose server was killed, and
each eight bytes after it are one blow to the file, its log or its mark.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from itertools import chain
from pathlib import Path
from struct import Struct

from headway.core.errors import JournalError
from headway.core.history import Minute, encode_minute
from headway.core.job import Reason, State, Terms, encode_terms
from headway.core.journal import reader, schema
from headway.core.journal.notes import Kind
from headway.core.journal.startup import Found
from headway.core.journal.statement import Change
from headway.core.past_attempt import PastAttempt, encode_attempt

NAMES = ("j", "j-wal", "j-mark")
# File, kind, a place in 1/65536 of the file, another in pages, a byte, and one that is left out.
BLOW = Struct(">BBHHBx")
# Of the log (sqlite.org/fileformat): its header, and that of each page in it.
LOG_HEADER, FRAME_HEADER = 32, 24
JOBS = 120
TASK = "sleep"
# Of the journal's clock: nothing is given up for its age.
KEPT_UNTIL = 1e12
Files = dict[str, bytes]
Content = dict[str, object]


def submitted(sequence: int, payload: bytes, key: str | None) -> Change:
    """Return the change that adds a job, of a batch if its number ends with 7."""
    terms = encode_terms(Terms(30.0, 2, None, tags=("a",) if sequence % 9 == 0 else ()))
    digest = None if key is None else b"digest"
    batch = (sequence << 16 | 1) if sequence % 10 == 7 else None
    return (sequence, TASK, State.QUEUED, None, payload, 5, terms, 0, None, 1000.0 + sequence, key, digest, batch)


def ended(sequence: int, place: int, state: State, body: bytes) -> Change:
    """Return the change that ends a job."""
    times = KEPT_UNTIL, 1000.5 + sequence, 1001.0 + sequence
    until, started, end = times
    return (sequence, None, state, until, body, Reason.NONE, place, 1, end, started, "text/plain", None, None)


@cache
def folder() -> Path:
    """Return a folder for one journal at a time, in memory where there is such a place."""
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="headway-fuzz-", dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@cache
def whole() -> tuple[Files, Files]:
    """Return the files of a journal that was closed, and of the same one while it was open."""
    path = folder() / "made"
    found = Found(path, "full")
    file, first = found.file, found.next_sequence
    places = dict.fromkeys((State.SUCCEEDED, State.FAILED, State.CANCELLED), 0)
    for number in range(JOBS):
        sequence = first + number
        changes = [submitted(sequence, b"p" * (9000 if number % 20 == 0 else 40), f"k{number}" if number % 3 else None)]
        if number % 4:
            state = (State.SUCCEEDED, State.FAILED, State.CANCELLED)[number % 4 - 1]
            places[state] += 1
            changes.append(ended(sequence, places[state], state, b"%d" % number * (4000 if number % 30 == 1 else 3)))
        assert file.commit(changes, number + 1, notes_of(number, sequence))
        if number == JOBS // 2:
            file.checkpoint()
    opened = {name: beside(path, name).read_bytes() for name in NAMES}
    found.close()
    return {name: beside(path, name).read_bytes() for name in NAMES}, opened


def notes_of(number: int, sequence: int) -> list[tuple[object, ...]]:
    """Return the notes that come with a job."""
    match number % 6:
        case 0:
            past = PastAttempt(1, 1.0, 2.0, "loop", Reason.ERROR, "", "no")
            return [(Kind.ATTEMPT, sequence, 1, encode_attempt(past))]
        case 1:
            return [(Kind.LOG, sequence, 0, b"text\n" * 20, 4096)]
        case 2:
            return [(Kind.HOLD, f"task {number}", "hold", "open", None, "the printer burns")]
        case 3:
            return [(Kind.MINUTE, number, encode_minute(Minute(number, succeeded=1)), 0)]
        case _:
            return []


def beside(path: Path, name: str) -> Path:
    """Return the file of a journal that has ``name`` in NAMES."""
    return path.with_name(path.name + name.removeprefix("j"))


def content(files: Files) -> Content:
    """Return all that a start reads of a journal. Raises JournalError if it is refused."""
    path = folder() / "j"
    for leftover in folder().glob("j*"):
        leftover.unlink()
    for name, data in files.items():
        # As a journal is made: of one that others can read a start warns, each time.
        beside(path, name).touch(mode=0o600)
        beside(path, name).write_bytes(data)
    found = Found(path, "full")
    try:
        # Bodies, attempts and logs are read later in fact, by a Reader that refuses as this does.
        with found.reading():
            return read(found)
    finally:
        found.close()


def read(found: Found) -> Content:
    """Return all that is in an open journal."""
    connection = found.connection
    jobs = list(chain.from_iterable(reader.jobs(connection)))
    return {
        "jobs": jobs,
        "ended": list(reader.ended(connection, [0] * len(State), 0.0, 0.0)),
        "unfinished": found.unfinished(),
        "keys": list(chain.from_iterable(reader.keys(connection, 0, 0.0))),
        "results": [reader.result(connection, job.sequence) for job in jobs],
        "attempts": [reader.attempts_of(connection, job.sequence) for job in jobs],
        "logs": [reader.log_of(connection, job.sequence) for job in jobs],
        "log ends": found.log_ends(),
        "holds": found.holds(),
        "minutes": found.minutes(),
        "counts": found.tally(),
        "places": (found.last_place, found.given_up),
        "batches": found.unsuccessful(),
        "latest": reader.latest(connection),
        "secret": found.ids.secret,
        # The last is that of this start.
        "salts": reader.salts(connection)[:-1],
        "changes": found.changes,
        "waiting": found.waiting(),
    }


@cache
def pristine(killed: bool) -> Content:
    """Return the content of a journal without damage."""
    return content(whole()[killed])


def fuzz_one(data: bytes) -> None:
    """Damage a journal and open it."""
    if not data:
        return
    killed = bool(data[0] % 2)
    files = damaged(dict(whole()[killed]), data[1:])
    try:
        found = content(files)
    except JournalError as error:
        line = str(error)
        assert line.isprintable(), line
        assert str(folder() / "j") in line, line
        return
    if is_misdirected(data[1:]):
        return
    if "j" not in files:
        # Nobody can know that there was one if its mark is lost, too. The new one begins with nothing.
        assert not any(found[name] for name in ("jobs", "keys", "holds", "minutes", "changes")), found
        return
    wanted = pristine(killed)
    wrong = [name for name in wanted if wanted[name] != found[name]]
    assert not wrong, f"opened with other {', '.join(wrong)}"


def is_misdirected(blows: bytes) -> bool:
    """Whether a page of the file is in the place of another, or is of zeros, as after a write that went astray.

    The checksum of a page is over its bytes alone, and that of zeros is zero. So such a page may go
    unnoticed where SQLite sees no order that it breaks: mostly a page of a long payload or result.
    """
    return any(
        NAMES[which % len(NAMES)] == "j" and kind % KINDS in (SWAP, ZERO, COPY)
        for which, kind, *_ in BLOW.iter_unpack(blows[: len(blows) // BLOW.size * BLOW.size])
    )


def damaged(files: Files, blows: bytes) -> Files:
    """Return ``files`` after all blows."""
    for at in range(0, len(blows) - BLOW.size + 1, BLOW.size):
        which, kind, place, page, byte = BLOW.unpack_from(blows, at)
        name = NAMES[which % len(NAMES)]
        data = files.get(name, b"")
        if data:
            files[name] = struck(data, kind, place * len(data) >> 16, page, byte, in_log=name == "j-wal")
            if kind % KINDS == GONE:
                del files[name]
    return files


KINDS = 8
FLIP, SET, CUT, SWAP, ZERO, COPY, GROW, GONE = range(KINDS)


def struck(data: bytes, kind: int, at: int, page: int, byte: int, *, in_log: bool) -> bytes:
    """Return the bytes of a file after one blow."""
    match kind % KINDS:
        case 0:
            return data[:at] + bytes([data[at] ^ 1 << byte % 8]) + data[at + 1 :]
        case 1:
            return data[:at] + bytes([byte]) + data[at + 1 :]
        case 2:
            return data[:at]
        case 6:
            return data + bytes([byte]) * (1 + page)
        case 7:
            return data
    head, pages = pages_of(data, in_log)
    one, other = at * len(pages) // max(len(data), 1), page % max(len(pages), 1)
    if pages:
        if kind % KINDS == SWAP:
            pages[one], pages[other] = pages[other], pages[one]
        else:
            pages[one] = bytes(len(pages[one])) if kind % KINDS == ZERO else pages[other]
    return head + b"".join(pages)


def pages_of(data: bytes, in_log: bool) -> tuple[bytes, list[bytes]]:
    """Return the head of a file and its pages."""
    head, size = (LOG_HEADER, FRAME_HEADER + schema.PAGE_BYTES) if in_log else (0, schema.PAGE_BYTES)
    return data[:head], [data[at : at + size] for at in range(head, len(data), size)]
