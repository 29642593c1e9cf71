"""Notes: rare facts, which go to the file in the commit of the changes around them.

Most jobs need none, so the row of a change stays small (see statement). A note is a tuple of its
kind and the values of the SQL for that kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from typing import Any

import apsw


class Kind(IntEnum):
    """The kinds of notes, each with its values."""

    # Sequence number, number of the attempt, a PastAttempt in MessagePack.
    ATTEMPT = 0
    # Sequence number, place of a piece of its log, the piece, bytes that are kept of beginning and end.
    LOG = 1
    # Task, dispatch, intake, until, reason.
    HOLD = 2
    # Sequence number, state, priority, due.
    TERMS = 3
    # Sequence number, number of an attempt that is no longer kept.
    LEFT_OUT = 4
    # Sequence number, the order as far as it was carried out (core/order).
    ORDER = 5
    # Number of a minute, a history.Minute in MessagePack, number of the last one that is given up.
    MINUTE = 6
    # Whether it tells of a change in the same message, an entry of the audit log (core/audit), entries
    # that are kept.
    ACT = 7


Note = tuple[Any, ...]

_WISHES = frozenset({Kind.TERMS, Kind.HOLD, Kind.ORDER})

_SQL = {
    Kind.ATTEMPT: "INSERT OR REPLACE INTO attempt SELECT ?1, ?2, ?3 WHERE EXISTS "
    "(SELECT 1 FROM job WHERE sequence = ?1)",
    Kind.LOG: "INSERT OR REPLACE INTO log SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM job WHERE sequence = ?1)",
    Kind.HOLD: "INSERT OR REPLACE INTO hold VALUES (?, ?, ?, ?, ?)",
    Kind.LEFT_OUT: "DELETE FROM attempt WHERE sequence = ? AND number = ?",
    Kind.ORDER: "UPDATE job SET payload = ?2 WHERE sequence = ?1 AND place IS NULL",
    Kind.TERMS: "UPDATE job SET state = ?2, priority = ?3, due = ?4 WHERE sequence = ?1 AND place IS NULL",
}
_ACT = (
    "INSERT INTO audit (told) VALUES (?)",
    "DELETE FROM audit WHERE number <= (SELECT max(number) FROM audit) - ?",
)
_MINUTE = "INSERT OR REPLACE INTO minute VALUES (?, ?)", "DELETE FROM minute WHERE number <= ?"
# Between its beginning and its end, no piece of a log is kept.
_CUT = "DELETE FROM log WHERE sequence = ? AND place >= ? AND place + length(text) <= ?"


def is_recallable_note(note: Note) -> bool:
    """Whether a note is the wish of a client about a job or a task, which is refused without room.

    So is the entry of the audit log that tells of such a wish.
    """
    return note[0] in _WISHES or (note[0] == Kind.ACT and note[1])


def wished(notes: Iterable[Note]) -> Iterator[int | str]:
    """Return the jobs, by number, and the tasks that the wishes among ``notes`` are about."""
    return (note[1] for note in notes if note[0] in _WISHES)


def body_bytes(note: Note) -> int:
    """Return how many bytes of content a note has."""
    return sum(len(value) for value in note if isinstance(value, bytes | str))


def put(connection: apsw.Connection, notes: Sequence[Note]) -> None:
    """Write notes in their order. The caller begins and ends the transaction."""
    for kind, *values in notes:
        if kind == Kind.LOG:
            sequence, place, text, kept = values
            connection.execute(_SQL[kind], (sequence, place, text))
            connection.execute(_CUT, (sequence, kept, place + len(text) - kept))
        elif kind == Kind.MINUTE:
            number, minute, given_up = values
            connection.execute(_MINUTE[0], (number, minute))
            connection.execute(_MINUTE[1], (given_up,))
        elif kind == Kind.ACT:
            _, told, kept = values
            connection.execute(_ACT[0], (told,))
            connection.execute(_ACT[1], (kept,))
        else:
            connection.execute(_SQL[kind], values)
