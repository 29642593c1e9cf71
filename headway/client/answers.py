"""Answers to facts, and to errors.

The header ``Job-State`` decides, as docs/protocol.md asks: an answer without it is not about a job.
The code alone does not, since a setting of the server changes that of a failed job.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote

from headway.client import facts
from headway.client.errors import HeadwayError, JobCancelled, JobExpired, JobFailed, NotHeadway, NotIssued, Refused
from headway.client.exchange import Response
from headway.client.status import BatchStatus, History, ServerInfo, Status

PROBLEM_TYPE = "urn:headway:problem:"
# Answers of 5xx that stay so.
LASTING = frozenset({501, 505})
SHOWN = 200
# The part of an id that a list has for a token that may not read.
PUBLIC_ID = re.compile(r"[0-9a-f]{20}")
# The version of the contract that this client keeps: docs/compatibility.md.
CONTRACT = 1
BATCH_COUNTS = ("pending", "succeeded", "failed", "cancelled", "expired")


def document(response: Response) -> dict[str, Any]:
    """Return the JSON object in an answer, empty if there is none."""
    if "json" not in response.headers.get("content-type", ""):
        return {}
    try:
        found = json.loads(response.content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def passes(response: Response) -> bool:
    """Whether an answer is about the server and not the request, and may be another one later."""
    if "job-state" in response.headers:
        return False
    return response.code in (408, 429) or (response.code >= 500 and response.code not in LASTING)


def reason_of(response: Response) -> str:
    """Return the end of the problem's type, empty if the answer is no problem of Headway's."""
    kind = document(response).get("type")
    return kind.removeprefix(PROBLEM_TYPE) if isinstance(kind, str) and kind.startswith(PROBLEM_TYPE) else ""


def fault(response: Response) -> str:
    """Return in one line what an answer says is wrong."""
    said = document(response).get("detail") or document(response).get("title") or ""
    return f"{response.code} {said}".strip()


def told_s(response: Response) -> float | None:
    """Return in how many seconds to come back, from Retry-After-Ms or Retry-After."""
    for name, per_second in (("retry-after-ms", 1000), ("retry-after", 1)):
        text = response.headers.get(name, "")
        if text.isascii() and text.isdecimal() and len(text) < 15:
            return int(text) / per_second
    return None


def waited_s(response: Response) -> int | None:
    """Return for how long the server was ready to wait, None if it did not."""
    for preference in response.headers.get("preference-applied", "").split(","):
        name, _, value = preference.strip().partition("=")
        if name == "wait" and value.isascii() and value.isdecimal():
            return int(value)
    return None


def server(response: Response) -> ServerInfo:
    """Return what an answer to ``GET /`` tells. Raises NotHeadway for another server or contract."""
    members = document(response)
    version, contract = members.get("version"), members.get("contract")
    if members.get("server") != "headway" or not isinstance(version, str) or not isinstance(contract, int):
        raise NotHeadway("GET / does not name a Headway: check the URL, and the server's version")
    if contract != CONTRACT:
        older = "the server" if contract < CONTRACT else "headway-client"
        raise NotHeadway(f"the server keeps contract {contract}, this client {CONTRACT}: upgrade {older}")
    return ServerInfo(version, contract)


def status(response: Response, job_id: str, *, of_result: bool = False) -> Status:
    """Return the status that an answer tells of a job. Raises HeadwayError if it tells none.

    ``of_result``: the result was asked for, which is no document about the job.
    """
    state = response.headers.get("job-state")
    if state is None:
        raise error(response, f"job {job_id}")
    # The content of a succeeded job may be its result, which the task has written.
    told = document(response) if not of_result or state != "succeeded" or response.code >= 400 else {}
    known = facts.status({**told, "id": job_id, "state": state})
    attempt, progress, position = (number(response, f"job-{name}") for name in ("attempt", "progress", "position"))
    return replace(
        known,
        attempt=known.attempt if attempt is None else attempt,
        progress=known.progress if progress is None else progress,
        position=known.position if position is None else position,
        reason=response.headers.get("job-reason") or known.reason,
        detail=facts.text(told, "detail") or (known.detail if state == "failed" else None),
        retry_after=told_s(response),
        message=known.message or _text(response, "job-message"),
        held=known.held or _text(response, "job-held"),
        kept_until=_date(response, "sunset"),
    )


def _text(response: Response, name: str) -> str | None:
    """Return the text in a header, which has all but visible ASCII percent-encoded."""
    return unquote(response.headers.get(name, "")) or None


def _date(response: Response, name: str) -> datetime | None:
    try:
        return parsedate_to_datetime(response.headers[name])
    except (KeyError, ValueError, IndexError, TypeError):
        return None


def number(response: Response, name: str) -> int | None:
    """Return the whole number in a header."""
    text = response.headers.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 15 else None


def batch(response: Response, batch_id: str) -> BatchStatus:
    """Return the status that an answer to GET tells of a batch. Raises HeadwayError if it tells none."""
    members = document(response)
    if "batch-pending" not in response.headers or not isinstance(members.get("jobs"), list):
        raise error(response, f"batch {batch_id}")
    counts = {name: _count(members, name) for name in BATCH_COUNTS}
    return BatchStatus(batch_id, **counts, jobs=states(members))


def batches(response: Response) -> list[BatchStatus]:
    """Return the batches of a list, without their jobs."""
    found = document(response).get("batches")
    if response.code != 200 or not isinstance(found, list):
        raise error(response, "GET /batches")
    return [
        BatchStatus(str(members.get("id")), **{name: _count(members, name) for name in BATCH_COUNTS}, jobs={})
        for members in found
        if isinstance(members, dict)
    ]


def history(response: Response) -> History:
    """Return the history that an answer tells."""
    members = document(response)
    if response.code != 200 or "spans" not in members:
        raise error(response, "GET /history")
    return facts.history(members)


def _count(members: dict[str, Any], name: str) -> int:
    value = members.get(name, 0)
    return value if isinstance(value, int) else 0


def states(members: dict[str, Any]) -> dict[str, str]:
    """Return state by id from the ``jobs`` of a document."""
    pairs = [(job.get("id"), job.get("state")) for job in facts.documents(members, "jobs")]
    return {job_id: state for job_id, state in pairs if isinstance(job_id, str) and isinstance(state, str)}


def next_page(members: dict[str, Any], path: str = "/jobs") -> str | None:
    """Return the path of the page after a list, which may be below a path of the server. None at the end."""
    following = members.get("next")
    return f"{path}?{following.partition('?')[2]}" if isinstance(following, str) else None


def failure(status: Status) -> HeadwayError:
    """Return the error for a job that ended without a result."""
    if status.state == "failed":
        return JobFailed(status.id, status.detail or "no detail", status.reason or "error", status.attempt or 0)
    if status.state == "cancelled" and status.reason == "lost":
        return JobCancelled(f"job {status.id} was in memory when its engine ended, and is lost: submit it again")
    if status.state == "cancelled":
        return JobCancelled(f"job {status.id} was cancelled")
    if status.state == "succeeded":
        return JobExpired(f"job {status.id} succeeded, but its result was deleted or given up (results.max_bytes)")
    return JobExpired(f"job {status.id} has finished, but its status is no longer kept (retention)")


def error(response: Response, about: str) -> HeadwayError:
    """Return the error that an answer means. ``about`` names the job, the batch or the request."""
    reason = reason_of(response)
    # An answer to HEAD has the media type of the problem alone.
    problem = reason or response.headers.get("content-type", "").startswith("application/problem+json")
    if problem and response.code == 421:
        return NotIssued(f"{about}: the id is of another server, or of an earlier run of one without a journal")
    if problem and response.code == 404 and about.startswith(("job ", "batch ")):
        if PUBLIC_ID.fullmatch(about.rpartition(" ")[2]):
            return NotIssued(f"{about}: this id lacks its last 16 digits, which a token with the scope read is told")
        return NotIssued(f"{about}: the server never issued this id")
    if reason or response.code in (401, 403, 413):
        return refusal(response, reason)
    where = response.headers.get("location")
    led = f" to {where}" if where and 300 <= response.code < 400 else ""
    return NotHeadway(
        f"{about} was answered with {response.code}{led} and neither Job-State nor a problem of Headway's: "
        f"is this a Headway? Check the URL"
    )


def refusal(response: Response, reason: str) -> Refused:
    """Return the error for a request that the server refuses, or a proxy before it."""
    members = document(response)
    pairs = [(str(f.get("field")), str(f.get("detail"))) for f in facts.documents(members, "errors")]
    detail = members.get("detail") or " ".join(response.content[:SHOWN].decode(errors="replace").split())
    return Refused(response.code, reason or "refused", str(detail), pairs)
