"""A journal as people are shown it: whether it is whole, its counts, and all of it as lines.

It may be in use meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import apsw
import orjson
from headway.core import ids
from headway.core.errors import JournalError
from headway.core.job import Reason, State, decode_terms
from headway.core.journal import schema, watermark
from headway.core.journal.reader import Saved, jobs, result, salts
from headway.core.shown import shown_payload, shown_result


def check(path: Path) -> list[str]:
    """Return the faults of a journal, one line each. It may be in use."""
    try:
        # Before the journal, so that the journal has at least the commits that the mark counts.
        marked = watermark.read(watermark.beside(path))
        with _open(path) as connection:
            meta = schema.verify(path, connection)
            missing = schema.missing_commits(path, connection, meta, marked)
    except JournalError as error:
        return [str(error)]
    return [f"{path}: the last {missing} acknowledged commits are missing"] if missing else []


def stats(path: Path) -> dict[str, object]:
    """Return counts and sizes. The journal may be in use. Raises JournalError."""
    with _open(path) as connection:
        meta = schema.Meta(connection)
        states: dict[Any, Any] = dict(connection.execute("SELECT state, count(*) FROM job GROUP BY state"))
        results = connection.execute("SELECT count(*), coalesce(sum(length(body)), 0) FROM result").fetchall()[0]
        page, pages, free = (connection.pragma(name) for name in ("page_size", "page_count", "freelist_count"))
    log = path.with_name(f"{path.name}-wal")
    return {
        "jobs": sum(states.values()),
        "by_state": {State(state).name.lower(): count for state, count in states.items()},
        "results": results[0],
        "result_bytes": results[1],
        "file_bytes": page * pages,
        "free_bytes": page * free,
        "log_bytes": log.stat().st_size if log.exists() else 0,
        "commits": meta.commits,
        "highest_sequence": meta.high,
        "closed": meta.clean,
    }


def export(path: Path, out: BinaryIO) -> int:
    """Write each job as a line of JSON, with payload and result. Return their number. Raises JournalError."""
    count = 0
    with _open(path) as connection:
        issued = ids.Ids(schema.Meta(connection).secret, salts(connection))
        for chunk in jobs(connection):
            for saved in chunk:
                job_id = issued.write(saved.sequence, issued.tag(saved.sequence)).decode()
                names: dict[str, object] = {
                    "state": State(saved.state).name.lower(),
                    "reason": Reason(saved.reason).text,
                }
                line: dict[str, object] = {"id": job_id} | saved._asdict() | names | _terms(saved)
                del line["terms"]
                if saved.payload is not None:
                    line["payload"] = shown_payload(decode_terms(saved.terms).media_type, saved.payload)
                if saved.size is not None:
                    line["result"] = _shown(connection, saved.sequence)
                out.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
                count += 1
    return count


@contextmanager
def _open(path: Path) -> Iterator[apsw.Connection]:
    """Open a journal for reading. Raises JournalError, also for what cannot be read in it."""
    with closing(schema.open_reader(path)) as connection, schema.reading(path):
        yield connection


def _terms(saved: Saved) -> dict[str, object]:
    """Return the terms of a job as members of a line. The deadline is of the journal's clock."""
    terms = decode_terms(saved.terms)
    deadline = None if terms.deadline_s is None else saved.submitted + terms.deadline_s
    return {"timeout": terms.timeout_s, "retries": terms.retries, "deadline": deadline}


def _shown(connection: apsw.Connection, sequence: int) -> dict[str, object] | None:
    found = result(connection, sequence)
    if found is None:
        return None
    return shown_result(*found)
