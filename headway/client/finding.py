"""The courses of ``find`` and of ``audit``: the entries of a list, a page after the other."""

from __future__ import annotations

from typing import Any

from headway.client import answers
from headway.client.exchange import Course, Send, Value
from headway.client.filters import Filter, query
from headway.client.roads import PAGE, Roads


def entries(roads: Roads, wanted: Filter, limit: int | None = None) -> Course[dict[str, Any]]:
    """Tell the entries of the jobs that fit, newest first, ``limit`` at most.

    A page may be empty although more follow. Each is asked for when it is needed.
    """
    members = query(wanted)
    path = f"/jobs?{members}{'&' if members else ''}limit={min(PAGE, limit or PAGE)}"
    return _listed(roads, path, "jobs", limit)


def changes(roads: Roads, limit: int | None = None) -> Course[dict[str, Any]]:
    """Tell the entries of the audit log, newest first, ``limit`` at most."""
    return _listed(roads, f"/audit?limit={min(PAGE, limit or PAGE)}", "entries", limit)


def _listed(roads: Roads, first: str, member: str, limit: int | None) -> Course[dict[str, Any]]:
    """Tell the items of the list ``member`` of each page, from the page ``first`` on."""
    place = first.partition("?")[0]
    path: str | None = first
    left = limit
    while path is not None and left != 0:
        response = yield from roads.exchange(Send("GET", path))
        document = answers.document(response)
        if response.code != 200 or not isinstance(document.get(member), list):
            raise answers.error(response, f"GET {place}")
        for entry in document[member][:left]:
            if isinstance(entry, dict):
                yield Value(entry)
        if left is not None:
            left -= min(left, len(document[member]))
        path = answers.next_page(document, place)
