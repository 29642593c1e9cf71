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
from headway.core.tasks.result import Result
from headway.core.valkey.steps import read_batch_place

# The fields of a hash that make a status, in the order of ``read_facts``.
FIELDS = (
    b"s",
    b"k",
    b"i",
    b"a",
    b"t",
    b"b",
    b"e",
    b"r",
    b"D",
    b"x",
    b"g",
    b"G",
    b"B",
    b"T",
    b"U",
    b"w",
    b"y",
    b"L",
    b"h",
    b"O",
)
LOG_FIELDS = (b"h", b"t", b"n")

decode_tags = msgspec.json.Decoder(tuple[str, ...]).decode


class Facts(msgspec.Struct, frozen=True, gc=False):
    """All facts of a job. Times in ms of the store's clock. 0: not yet, or none."""

    state: int
    task: str
    priority: int
    attempt: int
    submitted_ms: int
    started_ms: int
    ended_ms: int
    reason: int
    due_ms: int
    deadline_ms: int
    progress: int | None
    message: str
    batch: tuple[int, int] | None
    tags: tuple[str, ...]
    kept_until_ms: int
    # The node that runs it, or ran it last.
    node: bytes
    # Whether it has, or had, a result or an error. False of a job that succeeded: it returned None.
    has_result: bool
    # Bytes of its log, those too that are left out.
    log_bytes: int
    # When it reported its progress.
    progress_ms: int = 0
    # The last ``n`` that was given before it began or ended, if orders were open then.
    mark: int = 0

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
    found = dict(zip(FIELDS, values, strict=True))
    state, task = found[b"s"], found[b"k"]
    if state is None or task is None:
        return None
    progress, batch, tags = found[b"g"], found[b"B"], found[b"T"]

    def number(field: bytes) -> int:
        return int(found[field] or 0)

    return Facts(
        state=int(state),
        task=task.decode(),
        priority=number(b"i"),
        attempt=number(b"a"),
        submitted_ms=number(b"t"),
        started_ms=number(b"b"),
        ended_ms=number(b"e"),
        reason=number(b"r"),
        due_ms=number(b"D"),
        deadline_ms=number(b"x"),
        progress=None if progress is None else int(progress),
        message=(found[b"G"] or b"").decode(errors="replace"),
        batch=None if batch is None else read_batch_place(batch),
        tags=() if tags is None else decode_tags(tags),
        kept_until_ms=number(b"U"),
        node=found[b"w"] or b"",
        has_result=found[b"y"] is not None,
        log_bytes=number(b"L"),
        progress_ms=number(b"h"),
        mark=number(b"O"),
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
