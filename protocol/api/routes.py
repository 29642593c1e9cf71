"""The one table of routes: path and method to function, with the words that describe it.

The functions call the engine and nothing else. ``description`` serves the table to clients, and
tests compare it with docs/protocol.md and with all answers. A new route is a ``Route`` here. Its
path may have one ``{…}`` in it.
"""

from __future__ import annotations

from headway.core.order import Action
from headway.protocol.access.guard import Needs
from headway.protocol.access.scopes import ADMIN, CANCEL, METRICS, READ, SUBMIT, VIEW
from headway.protocol.api import (
    answers,
    audit,
    batches,
    contents,
    dashboard,
    description,
    events,
    health,
    history,
    jobs,
    logs,
    orders,
    revisions,
    submissions,
    tasks,
)
from headway.protocol.api.fields import BATCH, FILE, KEY, TASK
from headway.protocol.api.operation import NOTHING, Answerer, Audited, Operation, Route, Says
from headway.protocol.http.problems import METHODS, Refusal
from headway.protocol.http.request import Request
from msgspec.structs import replace

# Of submissions the task counts as well, which only the content names.
SUBMITS = Needs(SUBMIT)
CONTENTS = Route(
    "/tasks/{name}/jobs",
    Operation(
        "POST",
        contents.submit,
        name="submitContent",
        needs=SUBMITS,
        summary="submit a job whose payload is the content of the request",
        place=TASK,
        asks=("Idempotency-Key", "Prefer", "Traceparent"),
        query=contents.ContentOptions,
        sends="Anything",
        sends_as=("*/*",),
        says=answers.SUBMITTED,
        refuses=(*answers.SUBMITS, "not-found"),
    ),
    limited=True,
)
ORDERS = tuple(
    Route(
        f"/jobs/{action.value}",
        Operation(
            "POST",
            Audited(orders.order(action), code=202),
            name=f"{action.value}Jobs",
            needs=Needs(ADMIN, of_all=True),
            summary=summary,
            asks=("Idempotency-Key", "Prefer"),
            query=orders.OrderQuery,
            says=(*answers.SUBMITTED, answers.MATCHES),
            refuses=(
                *(*answers.ABOUT_JOBS, *answers.CHANGES, "draining", "queue-full"),
                *("length-required", "invalid", "unknown-task", "key-reused"),
            ),
        ),
        limited=True,
    )
    for action, summary in (
        (Action.RETRY, "resubmit all failed jobs that fit a filter"),
        (Action.CANCEL, "cancel all unfinished jobs that fit a filter"),
        (Action.DELETE, "forget the results of all finished jobs that fit a filter"),
    )
)
ROUTES: tuple[Route, ...] = (
    Route(
        "/",
        Operation(
            "GET",
            lambda service, request, _: description.index(service, request, ROUTES),
            name="index",
            needs=NOTHING,
            summary="tell what this is: a page for a person, JSON for a program",
            asks=("Accept", "Accept-Encoding", "If-None-Match"),
            says=(
                Says(
                    200,
                    "The server, its version, the version of the contract, and its routes.",
                    ("X-Content-Type-Options",),
                    ("Content-Security-Policy", "Referrer-Policy", "Vary", "ETag", "Content-Encoding"),
                    (("application/json", "Index"), *answers.HTML),
                ),
                answers.SAME,
            ),
            refuses=answers.ABOUT_JOBS,
        ),
        limited=True,
    ),
    Route(
        "/dashboard/{name}",
        Operation(
            "GET",
            lambda service, request, name: dashboard.file(service, request, name),
            name="dashboardFile",
            needs=NOTHING,
            summary="a file of the page at /",
            place=FILE,
            asks=("Accept-Encoding", "If-None-Match"),
            says=(
                Says(200, "The file.", ("ETag", *answers.OF_THE_DASHBOARD), ("Content-Encoding",), answers.FILES),
                answers.SAME,
            ),
            refuses=(*answers.ABOUT_JOBS, "not-found"),
        ),
        limited=True,
    ),
    Route(
        "/jobs",
        Operation(
            "POST",
            submissions.submit,
            name="submitJob",
            needs=SUBMITS,
            summary="submit a job",
            asks=("Idempotency-Key", "Prefer", "Traceparent"),
            sends="Submission",
            says=answers.SUBMITTED,
            refuses=answers.SUBMITS,
        ),
        Operation(
            "GET",
            jobs.listing,
            name="listJobs",
            needs=Needs(VIEW, of_all=True),
            summary="list the jobs that fit a filter",
            query=jobs.Query,
            says=(Says(200, "A page of jobs, newest first.", (), ("Link",), (("application/json", "Jobs"),)),),
            refuses=(*answers.ABOUT_JOBS, "invalid", "unknown-task"),
        ),
        limited=True,
    ),
    *ORDERS,
    Route(
        "/jobs/{id}",
        Operation(
            "GET",
            jobs.job,
            name="readJob",
            needs=Needs(VIEW, by_id=True, by_key=True),
            summary="tell its state",
            asks=("Prefer",),
            says=(*answers.ACTIVE_JOB, answers.SUCCEEDED_JOB, *answers.LOST_JOB),
            refuses=answers.OF_AN_ID,
        ),
        Operation(
            "PUT",
            submissions.put,
            name="putJob",
            needs=SUBMITS,
            place=KEY,
            summary="submit a job under a key that the client chose, in place of the id",
            asks=("If-Match", "If-None-Match", "Prefer", "Traceparent"),
            sends="Submission",
            says=answers.SUBMITTED,
            refuses=answers.SUBMITS,
        ),
        Operation(
            "DELETE",
            Audited(jobs.delete, code=204),
            name="cancelJob",
            needs=Needs(CANCEL, by_id=True, by_key=True),
            summary="cancel it, or forget the result of a finished one",
            says=(
                Says(204, "It is cancelled, or its result is forgotten.", ("Job-State",), answers.NAMED),
                Says(202, "It is being interrupted.", ("Job-State", "Retry-After"), answers.NAMED),
                *answers.LOST_JOB[1:],
            ),
            refuses=(*answers.OF_AN_ID, *answers.CHANGES),
        ),
        Operation(
            "PATCH",
            Audited(revisions.revise, code=200),
            name="changeJob",
            needs=Needs(ADMIN, by_key=True),
            summary="change the priority or the delay of one that waits, or run it now",
            sends="Revision",
            says=(*(replace(said, code=200) for said in answers.ACTIVE_JOB), answers.SUCCEEDED_JOB, *answers.LOST_JOB),
            refuses=(*answers.OF_AN_ID, *answers.CHANGES, *answers.CONTENT, "not-waiting"),
        ),
        limited=True,
    ),
    Route(
        "/jobs/{id}/result",
        Operation(
            "GET",
            jobs.result,
            name="readResult",
            needs=Needs(READ, by_id=True, by_key=True),
            summary="read its result",
            asks=("Prefer", "If-None-Match"),
            says=(
                Says(
                    200,
                    "The returned value, with its own media type.",
                    ("Job-State", "ETag", *answers.PAGE),
                    (*answers.NAMED, *answers.WAITED),
                    (("*/*", "Anything"),),
                ),
                Says(304, answers.SAME.text, ("Job-State", "ETag"), (*answers.NAMED, *answers.WAITED)),
                *answers.ACTIVE_JOB,
                *answers.LOST_JOB,
                Says(
                    410,
                    "The job succeeded, and its result is no longer kept.",
                    ("Job-State",),
                    (*answers.NAMED, *answers.WAITED),
                    (("application/problem+json", "GoneResult"),),
                ),
            ),
            refuses=answers.OF_AN_ID,
        ),
        limited=True,
    ),
    Route(
        "/jobs/{id}/payload",
        Operation(
            "GET",
            jobs.payload,
            name="readPayload",
            needs=Needs(READ, by_key=True),
            summary="read its payload, as it was sent",
            says=(
                Says(
                    200,
                    "The payload, with its own media type.",
                    ("Job-State", *answers.PAGE),
                    answers.NAMED,
                    (("*/*", "Anything"),),
                ),
            ),
            refuses=(*answers.OF_AN_ID, "payload-gone"),
        ),
        limited=True,
    ),
    Route(
        "/jobs/{id}/events",
        Operation(
            "GET",
            events.of_job,
            name="watchJob",
            needs=Needs(VIEW, by_id=True, by_key=True),
            summary="tell its state, and each change until it has ended, as server-sent events",
            asks=("Last-Event-ID",),
            query=events.JobEventsQuery,
            says=(
                Says(200, "The events.", ("Job-State", "X-Accel-Buffering"), answers.NAMED, answers.EVENTS),
                Says(204, "The job has ended, and Last-Event-ID is not before that.", ("Job-State",), answers.NAMED),
                answers.LOST_JOB[-1],
            ),
            refuses=(*answers.OF_AN_ID, "invalid", "streams"),
        ),
        limited=True,
    ),
    Route(
        "/jobs/{id}/log",
        Operation(
            "GET",
            logs.log,
            name="readLog",
            needs=Needs(READ, by_key=True),
            summary="read the text that it has logged, or some of it, also while it runs",
            asks=("Prefer", "Range", "If-Range"),
            says=(
                Says(
                    200,
                    "The kept text. A line in it counts the bytes that were left out.",
                    answers.OF_A_LOG,
                    answers.NAMED,
                    answers.PLAIN,
                ),
                Says(
                    206,
                    "The bytes of Content-Range.",
                    (*answers.OF_A_LOG, "Content-Range"),
                    (*answers.NAMED, *answers.WAITED),
                    answers.PLAIN,
                ),
                Says(
                    416,
                    "The job has not written these bytes, or they were left out. Job-State: whether more may come.",
                    (*answers.OF_A_LOG[:-1], "Content-Range"),
                    (*answers.NAMED, *answers.WAITED),
                    (("application/problem+json", "Problem"),),
                ),
                answers.LOST_JOB[-1],
            ),
            refuses=answers.OF_AN_ID,
        ),
        limited=True,
    ),
    Route(
        "/jobs/{id}/retry",
        Operation(
            "POST",
            Audited(submissions.retry, code=202),
            name="retryJob",
            needs=Needs(SUBMIT, by_key=True),
            summary="resubmit a failed job as a new job",
            asks=("Idempotency-Key", "Prefer"),
            says=tuple(replace(said, maybe=(*said.maybe, "Link")) for said in answers.SUBMITTED),
            refuses=(
                *(*answers.OF_AN_ID, *answers.CHANGES, "not-failed", "payload-gone", "draining", "queue-full"),
                "task-closed",
                *("length-required", "invalid", "unknown-task", "invalid-payload", "key-reused"),
            ),
        ),
        limited=True,
    ),
    Route(
        "/events",
        Operation(
            "GET",
            events.events,
            name="watch",
            needs=Needs(VIEW, of_all=True),
            summary="tell each change of the state of a job, as server-sent events",
            asks=("Last-Event-ID",),
            query=events.EventsQuery,
            says=(Says(200, "The events.", ("X-Accel-Buffering",), content=answers.EVENTS),),
            refuses=(*answers.ABOUT_JOBS, "invalid", "unknown-task", "streams"),
        ),
        limited=True,
    ),
    Route(
        "/batches",
        Operation(
            "GET",
            batches.recent,
            name="listBatches",
            needs=Needs(VIEW, of_all=True),
            summary="list the last batches, newest first",
            says=(Says(200, "At most 200 batches.", content=(("application/json", "Batches"),)),),
            refuses=answers.ABOUT_JOBS,
        ),
        Operation(
            "POST",
            batches.submit,
            name="submitBatch",
            needs=SUBMITS,
            summary="submit up to 1,000 jobs, all or none",
            asks=("Idempotency-Key", "Prefer", "Traceparent"),
            sends="Submissions",
            says=answers.SUBMITTED_BATCH,
            refuses=(*answers.SUBMITS, "batch-over-rate"),
        ),
        limited=True,
    ),
    Route(
        "/batches/{id}",
        Operation(
            "GET",
            batches.batch,
            name="readBatch",
            needs=Needs(VIEW, by_id=True),
            place=BATCH,
            summary="tell how many of its jobs have not finished",
            asks=("Prefer",),
            says=(answers.PENDING_BATCH, *answers.FINISHED_BATCH),
            refuses=answers.OF_AN_ID,
        ),
        Operation(
            "DELETE",
            Audited(batches.delete, code=204),
            name="cancelBatch",
            needs=Needs(CANCEL, by_id=True),
            place=BATCH,
            summary="cancel those that have not finished",
            says=(
                Says(204, "Those that waited are cancelled.", answers.COUNTS, answers.MORE_COUNTS),
                Says(202, "Some are being interrupted.", (*answers.COUNTS, "Retry-After"), answers.MORE_COUNTS),
                answers.FINISHED_BATCH[-1],
            ),
            refuses=(*answers.OF_AN_ID, *answers.CHANGES),
        ),
        limited=True,
    ),
    Route(
        "/tasks",
        Operation(
            "GET",
            tasks.listing,
            name="listTasks",
            needs=Needs(SUBMIT, VIEW),
            summary="list the tasks of the server",
            says=(Says(200, "The tasks.", content=(("application/json", "Tasks"),)),),
            refuses=answers.ABOUT_JOBS,
        ),
        limited=True,
    ),
    Route(
        "/tasks/{name}",
        Operation(
            "GET",
            tasks.task,
            name="readTask",
            needs=Needs(SUBMIT, VIEW),
            summary="one of them: description, JSON Schema, options, counts",
            place=TASK,
            says=(Says(200, "The task.", answers.LOAD, content=(("application/json", "Task"),)),),
            refuses=(*answers.ABOUT_JOBS, "not-found"),
        ),
        Operation(
            "PATCH",
            Audited(tasks.switch, code=200),
            name="switchTask",
            needs=Needs(ADMIN),
            summary="hold its jobs or let them run, close it to new ones or open it",
            place=TASK,
            sends="Switches",
            says=(Says(200, "The task.", answers.LOAD, content=(("application/json", "Task"),)),),
            refuses=(*answers.ABOUT_JOBS, *answers.CHANGES, *answers.CONTENT, "not-found"),
        ),
        limited=True,
    ),
    CONTENTS,
    Route(
        "/healthz",
        Operation(
            "GET",
            health.healthz,
            name="live",
            needs=NOTHING,
            summary="200 while the event loop turns, also while draining",
            says=(Says(200, "The server is up.", content=answers.PLAIN),),
        ),
    ),
    Route(
        "/readyz",
        Operation(
            "GET",
            health.readyz,
            name="ready",
            needs=NOTHING,
            summary="200 while new jobs are wanted here, else 503 with the reason",
            says=(
                Says(200, "New jobs are wanted here.", ("Job-Durability",), content=answers.PLAIN),
                Says(503, "No new jobs are wanted here.", ("Retry-After",), content=answers.PLAIN),
            ),
        ),
    ),
    Route(
        "/stats",
        Operation(
            "GET",
            health.stats,
            name="stats",
            needs=Needs(METRICS, VIEW),
            summary="the counts, JSON",
            says=(Says(200, "The counts.", answers.LOAD, content=(("application/json", "Stats"),)),),
            refuses=answers.ABOUT_JOBS,
        ),
        limited=True,
    ),
    Route(
        "/history",
        Operation(
            "GET",
            history.history,
            name="history",
            needs=Needs(VIEW),
            summary="tell what was done in the last hours, for charts",
            query=history.HistoryQuery,
            says=(Says(200, "Counts of equal spans of time.", content=(("application/json", "History"),)),),
            refuses=(*answers.ABOUT_JOBS, "invalid"),
        ),
        limited=True,
    ),
    Route(
        "/audit",
        Operation(
            "GET",
            audit.audit,
            name="audit",
            needs=Needs(ADMIN, of_all=True),
            summary="tell who has changed what, newest first",
            query=audit.AuditQuery,
            says=(Says(200, "Some of the last changes.", (), ("Link",), (("application/json", "Audit"),)),),
            refuses=(*answers.ABOUT_JOBS, "invalid"),
        ),
        limited=True,
    ),
    Route(
        "/metrics",
        Operation(
            "GET",
            health.exposition,
            name="metrics",
            needs=Needs(METRICS),
            summary="counts and histograms, Prometheus text",
            says=(Says(200, "The counts.", content=(("text/plain; version=0.0.4; charset=utf-8", "Text"),)),),
            refuses=answers.ABOUT_JOBS,
        ),
        limited=True,
    ),
    Route(
        "/openapi.json",
        Operation(
            "GET",
            lambda service, request, _: description.openapi(service, request, ROUTES),
            name="openapi",
            needs=NOTHING,
            summary="describe all of this, OpenAPI 3.1",
            asks=("If-None-Match",),
            says=(
                Says(
                    200,
                    "The description.",
                    ("ETag", "X-Content-Type-Options"),
                    content=(("application/json", "Anything"),),
                ),
                answers.SAME,
            ),
            refuses=answers.ABOUT_JOBS,
        ),
        limited=True,
    ),
    Route(
        "/docs",
        Operation(
            "GET",
            lambda service, request, _: description.docs(service, request, ROUTES),
            name="docs",
            needs=NOTHING,
            summary="the same as a page",
            asks=("If-None-Match",),
            says=(Says(200, "The page.", ("ETag", *answers.PAGE), content=answers.HTML), answers.SAME),
            refuses=answers.ABOUT_JOBS,
        ),
        limited=True,
    ),
)
# The server itself has no path: ``OPTIONS *``.
SERVER = Route("*", allow=METHODS)


class Places:
    """The routes by the target of a request, all of them below ``base``."""

    def __init__(self, base: bytes) -> None:
        self._base = base
        # By the path if it has no id, by the part before an id at its end, and by the parts before
        # and after an id within.
        self._fixed = {b"*": SERVER}
        self._ending: dict[bytes, Route] = {}
        self._within: dict[tuple[bytes, bytes], Route] = {}
        for route in ROUTES:
            before, brace, after = (base + route.path.encode()).partition(b"/{")
            rest = after.partition(b"}")[2]
            if not brace:
                self._fixed[before] = route
            elif not rest:
                self._ending[before] = route
            else:
                self._within[before, rest] = route
        if base:
            self._fixed[base] = self._fixed[base + b"/"]
        # Where the first part of a path may end, after the base.
        self._begin = len(base) + 1

    def find(self, target: bytes) -> tuple[Route, bytes]:
        """Return the route of a request target and the id in it. Raises Refusal if there is none."""
        path = target.partition(b"?")[0] if b"?" in target else target
        route = self._fixed.get(path)
        if route is not None:
            return route, b""
        before, _, job_id = path.rpartition(b"/")
        route = self._ending.get(before)
        if route is not None:
            return route, job_id
        at = path.find(b"/", self._begin)
        job_id, slash, rest = path[at + 1 :].partition(b"/")
        route = self._within.get((path[:at], slash + rest))
        if route is not None:
            return route, job_id
        raise self._nowhere(path)

    def limited(self, request: Request) -> bool:
        """Whether a request counts for its client's limits. One without a route does.

        OPTIONS does not: a browser asks it on its own, and cannot wait.
        """
        if request.method == b"OPTIONS":
            return False
        route = self._fixed.get(request.target.partition(b"?")[0])
        return route is None or route.limited

    def _nowhere(self, path: bytes) -> Refusal:
        base = self._base.decode()
        if path.startswith(self._base):
            return Refusal("not-found", f"there is no such route: {base}/docs lists them")
        return Refusal("not-found", f"all routes are below {base}/, which is http.base_path in config.yaml")


def answer_for(route: Route, method: bytes) -> Answerer:
    """Return the function for ``method``. Raises Refusal if the route does not have it."""
    answer = route.answers.get(method)
    if answer is None:
        raise Refusal("method", f"{route.path} has {route.allow[7:-2].decode()}", fields=route.allow)
    return answer
