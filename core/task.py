"""A task: a function of the user that jobs name, and its options."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import msgspec
from headway.core.payload_type import BODY, PayloadType

DEADLINE_LONGEST_S = 60 * 86_400
# The names of the server's own tasks begin so.
OWN_PREFIX = "headway."
RETRIES_MOST = 1000
KEEP_LONGEST_S = 365 * 86_400


class Lane(Enum):
    """The place in which a task runs."""

    LOOP = "loop"
    THREAD = "thread"
    PROCESS = "process"


class Task(msgspec.Struct, frozen=True, eq=False):
    """A registered function. Times in seconds. None: the setting of config.yaml."""

    name: str
    function: Callable[..., Any]
    # None: the setting of config.yaml.
    lane: Lane | None
    takes_context: bool
    # Its place in the registry, which a row keeps.
    index: int
    # Seconds of an attempt.
    timeout_s: float | None = None
    # Attempts after the first, after errors that are ``retry_on``.
    retries: int | None = None
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    # Seconds from the submission to the end of the last attempt.
    deadline_s: float | None = None
    # Seconds that a finished job is kept.
    keep_s: float | None = None
    # The most of its jobs that run at once.
    max_concurrent: int | None = None
    # The type of its payloads. None: they may be anything.
    payload_type: PayloadType | None = None
    # Bytes of content that a job of it may have. None: limits.body_bytes.
    body_bytes: int | None = None
    # Whether it wraps a coroutine function: it makes a coroutine, which is awaited on the loop.
    awaits: bool = False
    # The first line of the function's docstring.
    description: str = ""

    @property
    def takes_json(self) -> bool:
        """Whether JSON is decoded for the function."""
        return self.payload_type is not BODY

    @property
    def takes_content(self) -> bool:
        """Whether the function accepts content that is no JSON."""
        return self.payload_type is None or self.payload_type is BODY
