"""An order about many jobs: to retry, cancel or delete all that fit a filter.

An order is a job of one of the server's own tasks, so it has an id, states, progress and a result,
and is cancelled as any other. Its payload is the order, and as far as it was carried out.
"""

from __future__ import annotations

from enum import Enum

import msgspec
from headway.core.errors import InvalidError
from headway.core.job import ACTIVE, State
from headway.core.job_filter import JobFilter
from headway.core.task import OWN_PREFIX
from msgspec.structs import replace


class Action(Enum):
    """What is done to each job."""

    RETRY = "retry"
    CANCEL = "cancel"
    DELETE = "delete"


# The states of the jobs that an action is about.
STATES: dict[Action, frozenset[State]] = {
    Action.RETRY: frozenset({State.FAILED}),
    Action.CANCEL: ACTIVE,
    Action.DELETE: frozenset({State.SUCCEEDED, State.FAILED}),
}
# The tasks of the server, in the order of their indexes.
OWN_TASKS = {f"{OWN_PREFIX}{action.value}": action for action in Action}
# Orders that may wait or run, of each partition of a store. A node carries out as many at once.
OWN_MOST = 16
# Jobs of a step, at most.
STEP_MOST = 32
# Seconds between two looks for room, or for the store.
LOOK_S = 0.05
# Seconds of an attempt: it goes on in the next one.
TIMEOUT_S = 86_400.0
# Of the queue, the part that retries leave to clients: one in so many places.
LEFT = 10


class Order(msgspec.Struct, frozen=True):
    """An order, and as far as it was carried out."""

    action: Action
    wanted: JobFilter
    # Jobs that fitted when it came. None: they were not looked for yet.
    matched: int | None = None
    # Jobs that it was carried out for, and jobs that had changed or were gone.
    done: int = 0
    skipped: int = 0
    # All jobs up to this number are done or skipped.
    upto: int = 0


encode_order = msgspec.json.Encoder().encode
decode_order = msgspec.json.Decoder(Order).decode


def meant(action: Action, wanted: JobFilter) -> JobFilter:
    """Return the jobs that an action is about. Raises InvalidError for all jobs, or for other states."""
    if wanted == JobFilter():
        names = "state, task, tag, reason, error, submitted_after, submitted_before, ended_after or ended_before"
        raise InvalidError([("", f"expected at least one of {names}: without a filter nothing is done")])
    states = STATES[action]
    wrong = sorted(wanted.states - states)
    if wrong:
        allowed = ", ".join(state.name.lower() for state in sorted(states))
        fault = f"{wrong[0].name.lower()!r} is not allowed: to {action.value} jobs, expected one or more of {allowed}"
        raise InvalidError([("state", fault)])
    return replace(wanted, states=wanted.states or states)
