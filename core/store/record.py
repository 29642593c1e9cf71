"""A job as its keys hold it: the hash of its facts, its record, its result and its log.

Facts are short strings, so that the hash stays a list in the store: 200 bytes rather than 800. All
times are ms of the store's clock.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from headway.core.job import Terms, decode_terms, encode_terms
from headway.core.job_log import JobLog
from headway.core.status import Status
from headway.core.store.steps import read_batch_place
from headway.core.tasks.result import Result

# The fields of a hash that make a status, in the order of ``read_facts``: the numbers first.
NUMBERS = (b"s", b"i", b"a", b"t", b"b", b"e", b"r", b"D", b"x", b"U", b"L", b"h")
FIELDS = (*NUMBERS, b"k", b"g", b"G", b"B", b"T", b"w", b"y")
TEXTS = len(NUMBERS)
LOG_FIELDS = (b"h", b"t", b"n")

decode_tags = msgspec.json.Decoder(tuple[str, ...]).decode


class Facts(msgspec.Struct, frozen=True, gc=False):
    """All facts of a job. Times in ms of the store's clock. 0: not yet, or none."""

    state: int
    priority: int
    attempt: int
    submitted_ms: int
    started_ms: int
    ended_ms: int
    reason: int
    due_ms: int
    deadline_ms: int
    kept_until_ms: int
    # Bytes of its log, those too that are left out.
    log_bytes: int
    # When it reported its progress.
    progress_ms: int
    task: str
    progress: int | None = None
    message: str = ""
    batch: tuple[int, int] | None = None
    tags: tuple[str, ...] = ()
    # The node that runs it, or ran it last.
    node: bytes = b""
    # Whether it has, or had, a result or an error. False of a job that succeeded: it returned None.
    has_result: bool = False

    def status(
        self, sequence: int, job_id: bytes, *, position: int = 0, retry_after_ms: int = 0, held: str | None = None
    ) -> Status:
        """Return the status of the job."""
        return Status(
            state=self.state,
            sequence=sequence,
            id=job_id,
            task=self.task,
            attempt=self.attempt,
            progress=self.progress,
            position=position,
            retry_after_ms=retry_after_ms,
            submitted=self.submitted_ms / 1000,
            started=self.started_ms / 1000,
            ended=self.ended_ms / 1000,
            reason=self.reason,
            tags=self.tags,
            message=self.message,
            held=held,
            kept_until=self.kept_until_ms / 1000,
        )


def read_facts(values: Sequence[bytes | None]) -> Facts | None:
    """Return the facts of the values of ``FIELDS``, None for a job that is not there any more."""
    state, task = values[0], values[TEXTS]
    if state is None or task is None:
        return None
    numbers = [int(value) if value else 0 for value in values[:TEXTS]]
    progress, message, batch, tags = values[TEXTS + 1 : TEXTS + 5]
    return Facts(
        state=numbers[0],
        priority=numbers[1],
        attempt=numbers[2],
        submitted_ms=numbers[3],
        started_ms=numbers[4],
        ended_ms=numbers[5],
        reason=numbers[6],
        due_ms=numbers[7],
        deadline_ms=numbers[8],
        kept_until_ms=numbers[9],
        log_bytes=numbers[10],
        progress_ms=numbers[11],
        task=task.decode(),
        progress=None if progress is None else int(progress),
        message="" if message is None else message.decode(errors="replace"),
        batch=None if batch is None else read_batch_place(batch),
        tags=() if tags is None else decode_tags(tags),
        node=values[TEXTS + 5] or b"",
        has_result=values[TEXTS + 6] is not None,
    )


def encode_record(terms: Terms, payload: bytes) -> bytes:
    """Return the record of a job: what is needed to run it."""
    text = encode_terms(terms)
    return b"%d %b%b" % (len(text), text, payload)


def decode_record(record: bytes) -> tuple[Terms, bytes]:
    """Return the terms and the payload of a record."""
    length, _, rest = record.partition(b" ")
    return decode_terms(rest[: int(length)]), rest[int(length) :]


def encode_result(result: Result | None) -> bytes:
    """Return a result as it is kept. Empty: it is ``null``, and not kept."""
    return b"" if result is None else b"%b\n%b" % (result.media_type.encode(), result.body)


def encode_error(error: str) -> bytes:
    """Return the error of a failed job as it is kept."""
    return b"\n" + error.encode(errors="surrogatepass")


def decode_result(kept: bytes) -> Result:
    """Return a result, or an error as the local engine keeps one."""
    media_type, _, body = kept.partition(b"\n")
    return Result(body, media_type.decode()) if media_type else Result(body)


def read_log(values: Sequence[bytes | None]) -> JobLog:
    """Return the log of a job from the values of ``LOG_FIELDS``."""
    head, tail, total = values
    return JobLog(head or b"", tail or b"", int(total or 0))
