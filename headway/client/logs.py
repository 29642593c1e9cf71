"""The log of a job: as it is now, and followed to the end of the job.

Places are bytes of the whole log. The server keeps its beginning and its end, and counts the rest.
So a part may begin later than it was asked for.
"""

from __future__ import annotations

import codecs
import re
import time
from typing import NamedTuple

from headway.client import answers
from headway.client.errors import JobExpired
from headway.client.exchange import READ_TIMEOUT_S, Course, Pause, Response, Road, Send, Value
from headway.client.places import HOLD_S
from headway.client.roads import EARLY_S, READ_MARGIN_S, UNTOLD_S, Roads
from headway.client.status import FINISHED, LogText

# Seconds between two requests for a log that grows all the time.
REST_S = 0.2
_RANGE = re.compile(r"bytes (?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18})")


class LogPart(NamedTuple):
    """The bytes of a part, the place of the first one, and the length of the whole log."""

    data: bytes
    start: int
    total: int
    # Of the job.
    state: str
    # For how long the server was ready to wait, and when it asks to come back.
    waited_s: int | None
    told_s: float | None


def read(roads: Roads, job_id: str, start: int) -> Road[LogText]:
    """Return the log from ``start`` on. Of one below 0, that many bytes of its end."""
    part = yield from _part(roads, job_id, start, 0)
    return LogText(part.data.decode(errors="replace"), part.start, part.total, part.state)


def follow(roads: Roads, job_id: str, start: int) -> Course[LogText]:
    """Tell the log from ``start`` on as it grows. It is over when the job has ended.

    A part that the server has left out is told as a line.
    """
    place = start
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    # The last text.
    last = ""
    while True:
        began = time.monotonic()
        part = yield from _part(roads, job_id, place, HOLD_S)
        # Without data, all up to the end was left out. A place below 0 counts from the end, and one
        # beyond it is of a log that was cut by a crash.
        begin = part.start if part.data else part.total
        left_out = begin - place if 0 <= place < begin else 0
        text = decoder.decode(b"", final=True) if left_out else ""
        if left_out:
            text += gap(text or last, left_out)
        text += decoder.decode(part.data)
        place = begin + len(part.data)
        if text:
            last = text
            yield Value(LogText(text, begin - left_out, place, part.state))
        if part.state in FINISHED and place >= part.total:
            if rest := decoder.decode(b"", final=True):
                yield Value(LogText(rest, place, place, part.state))
            return
        took_s = time.monotonic() - began
        if part.data:
            yield Pause(max(REST_S - took_s, 0.0))
        elif took_s < (part.waited_s or HOLD_S) - EARLY_S:
            # The server drains, or does not wait at all. It has said when to come back.
            yield Pause(UNTOLD_S if part.told_s is None else part.told_s)


def gap(before: str, size: int) -> str:
    """Return the line in place of bytes that were left out behind a text, as the server writes it."""
    end = "\n" if before and not before.endswith("\n") else ""
    return f"{end}[... {size} bytes left out ...]\n"


def _part(roads: Roads, job_id: str, start: int, hold_s: int) -> Road[LogPart]:
    """Ask for the log from ``start`` on. With ``hold_s`` the server waits for so long until there is text."""
    headers = {"Accept-Encoding": "identity"}
    if start or hold_s:
        headers["Range"] = f"bytes={start}-" if start >= 0 else f"bytes={start}"
    if hold_s:
        headers["Prefer"] = f"wait={hold_s}"
    read_timeout_s = hold_s + READ_MARGIN_S if hold_s else READ_TIMEOUT_S
    response = yield from roads.exchange(Send("GET", f"/jobs/{job_id}/log", headers, read_timeout_s=read_timeout_s))
    return _read(response, job_id, start)


def _read(response: Response, job_id: str, start: int) -> LogPart:
    state = response.headers.get("job-state")
    found = _RANGE.fullmatch(response.headers.get("content-range", ""))
    if state is None or (found is None) != (response.code == 200) or response.code not in (200, 206, 416):
        if state == "expired":
            raise JobExpired(f"job {job_id} has finished, and its log is no longer kept (retention)")
        raise answers.error(response, f"job {job_id}")
    data = b"" if response.code == 416 else response.content
    if found is not None:
        total = int(found[3])
        begin = total if found[1] is None else int(found[1])
    else:
        # All of it, with a line for a part that is left out.
        total = answers.number(response, "log-length") or len(data)
        begin = 0
        if start > 0:
            data = data[-(total - start) :] if start < total else b""
            begin = max(total - len(data), 0)
    return LogPart(data, begin, total, state, waited_s=answers.waited_s(response), told_s=answers.told_s(response))
