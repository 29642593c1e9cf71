"""The course of ``find``: the entries of a list, a page after the other."""

from __future__ import annotations

from typing import Any

from headway.client import answers
from headway.client.exchange import Course, Send, Told
from headway.client.filters import Filter, query
from headway.client.roads import PAGE, Roads


def entries(roads: Roads, wanted: Filter, limit: int | None = None) -> Course[dict[str, Any]]:
    """Tell the entries of the jobs that fit, newest first, ``limit`` at most.

    A page may be empty although more follow. Each is asked for when it is needed.
    """
    left = limit
    members = query(wanted)
    path: str | None = f"/jobs?{members}{'&' if members else ''}limit={min(PAGE, left or PAGE)}"
    while path is not None and left != 0:
        response = yield from roads.exchange(Send("GET", path))
        document = answers.document(response)
        if response.code != 200 or not isinstance(document.get("jobs"), list):
            raise answers.error(response, "GET /jobs")
        for entry in document["jobs"][:left]:
            if isinstance(entry, dict):
                yield Told(entry)
        if left is not None:
            left -= min(left, len(document["jobs"]))
        path = answers.next_page(document)
