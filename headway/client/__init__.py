"""The client: submit jobs, wait for their ends and read their results, from threads or asyncio.

It needs httpx2 and nothing else of Headway, so that it can be installed without the server. All
decisions are in generators that do no I/O: they yield requests and pauses. Two drivers carry these
out. In reading order:

- ``errors``: every error that a caller meets.
- ``status``: the facts about a job, a batch, a task, an event.
- ``exchange``: a request, its answer, a pause, and values on the way.
- ``facts``: members of documents to facts.
- ``answers``: answers to facts and errors.
- ``patience``: when a request is repeated, and when that ends.
- ``submissions``: tasks, payloads and options to content.
- ``places``: the jobs that are waited for, and the next step of each.
- ``filters``: which jobs are meant.
- ``roads``: the generators: submitting, asking, waiting.
- ``finding``, ``logs``, ``stream``: those with many values: lists, logs, events.
- ``orders``: those of a person: hold a task, change a job, retry many.
- ``settings``: the address and the token, and the httpx2 client made of them.
- ``threads``: ``Client``, which blocks, and in ``jobs`` its jobs and batches.
- ``coroutines``: ``AsyncClient``, for asyncio, and in ``async_jobs`` its jobs and batches.
"""

from headway.client.async_jobs import AsyncBatch, AsyncJob
from headway.client.coroutines import AsyncClient
from headway.client.errors import (
    HeadwayError,
    JobCancelled,
    JobExpired,
    JobFailed,
    NotHeadway,
    NotIssued,
    QueueFull,
    Refused,
    TaskClosed,
    TimedOut,
    Unavailable,
)
from headway.client.filters import Filter
from headway.client.jobs import Batch, Job
from headway.client.status import (
    AttemptStatus,
    BatchStatus,
    Change,
    History,
    JobEvent,
    LogText,
    Matches,
    ServerInfo,
    Span,
    Status,
    TaskSwitches,
)
from headway.client.submissions import Submission
from headway.client.threads import Client

__all__ = [
    "AsyncBatch",
    "AsyncClient",
    "AsyncJob",
    "AttemptStatus",
    "Batch",
    "BatchStatus",
    "Change",
    "Client",
    "Filter",
    "HeadwayError",
    "History",
    "Job",
    "JobCancelled",
    "JobEvent",
    "JobExpired",
    "JobFailed",
    "LogText",
    "Matches",
    "NotHeadway",
    "NotIssued",
    "QueueFull",
    "Refused",
    "ServerInfo",
    "Span",
    "Status",
    "Submission",
    "TaskClosed",
    "TaskSwitches",
    "TimedOut",
    "Unavailable",
]
