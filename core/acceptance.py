"""Rules of letting jobs in that hold whatever keeps them: all of these are of a submission and its task alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil

from headway.core.durability import Durability, keeps
from headway.core.errors import InvalidPayloadError, NotDurableError
from headway.core.job import Submission
from headway.core.task import Task


def misfits(submissions: Sequence[Submission], tasks: Mapping[str, Task]) -> Iterator[tuple[str, str]]:
    """Yield (place, fault) for each payload of a batch that does not fit its task, if that is one of ``tasks``."""
    for index, submission in enumerate(submissions):
        task = tasks.get(submission.task)
        if task is None or task.payload_type is None:
            continue
        try:
            task.payload_type.check(submission.payload)
        except InvalidPayloadError as error:
            for place, fault in error.faults:
                yield f"[{index}].{place}", fault


def check_promise(demanded: Durability | None, promised: Durability) -> None:
    """Raise NotDurableError if a submission demands more than the engine promises."""
    if demanded is not None and not keeps(promised, demanded):
        raise NotDurableError(demanded, promised)


def ends_to_free(lacking_bytes: int, payload_bytes: int, unfinished: int) -> int:
    """Return how many of the ``unfinished`` jobs have to end to free that much of their ``payload_bytes``."""
    return ceil(lacking_bytes / max(payload_bytes / max(unfinished, 1), 1.0))
