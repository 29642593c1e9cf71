"""An attempt at a job, as clients are told of it."""

from __future__ import annotations

import msgspec
from headway.core.job import Reason


class PastAttempt(msgspec.Struct, frozen=True, gc=False):
    """An attempt at a job: one that failed, or the last one. Times are of time.time, in seconds.

    ``reason`` is NONE if it succeeded or runs.
    """

    # 1 for the first.
    number: int
    # 0.0 if it is unknown, since the server died in it.
    started: float
    # 0.0 if it still runs.
    ended: float
    # "loop", "thread" or "process", empty if it has ended and did not fail.
    place: str
    reason: Reason = Reason.NONE
    # The name of the error's class, empty if the task raised none.
    error_type: str = ""
    error: str = ""
    # With the causes of the error. Empty: there is none.
    traceback: str = ""


# As a journal keeps one.
encode_attempt = msgspec.msgpack.Encoder().encode
decode_attempt = msgspec.msgpack.Decoder(PastAttempt).decode
