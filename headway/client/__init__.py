"""The client: submit jobs, wait for their ends and read their results, from threads or asyncio.

It needs httpx2 and nothing else of Headway, so that it can be installed without the server. All
decisions are in generators that do no I/O: they yield requests and pauses. Two drivers carry these
out. In reading order:

- ``errors``: every error that a caller meets.
- ``status``: the facts about a job or a batch.
- ``exchange``: a request, its answer, a pause.
- ``answers``: answers to facts and errors.
- ``patience``: when a request is repeated, and when that ends.
- ``submissions``: tasks, payloads and options to content.
- ``places``: the jobs that are waited for, and the next step of each.
- ``roads``: the generators.
- ``settings``: the address and the token, and the httpx2 client made of them.
- ``threads``: ``Client``, which blocks.
- ``coroutines``: ``AsyncClient``, for asyncio.
"""

from headway.client.coroutines import AsyncBatch, AsyncClient, AsyncJob
from headway.client.errors import (
    HeadwayError,
    JobCancelled,
    JobExpired,
    JobFailed,
    NotHeadway,
    NotIssued,
    QueueFull,
    Refused,
    TimedOut,
    Unavailable,
)
from headway.client.status import BatchStatus, ServerInfo, Status
from headway.client.submissions import Submission
from headway.client.threads import Batch, Client, Job

__all__ = [
    "AsyncBatch",
    "AsyncClient",
    "AsyncJob",
    "Batch",
    "BatchStatus",
    "Client",
    "HeadwayError",
    "Job",
    "JobCancelled",
    "JobExpired",
    "JobFailed",
    "NotHeadway",
    "NotIssued",
    "QueueFull",
    "Refused",
    "ServerInfo",
    "Status",
    "Submission",
    "TimedOut",
    "Unavailable",
]
