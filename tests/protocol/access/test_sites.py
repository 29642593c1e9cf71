"""Changes that pages of other sites ask a browser for."""

from __future__ import annotations

import pytest

from tests.end_to_end.process import Server
from tests.protocol.wire import request, submission

FOREIGN = [
    ("Origin: https://evil.example", "Content-Type: text/plain"),
    ("Origin: null", "Content-Type: text/plain"),
    ("Sec-Fetch-Site: cross-site", "Content-Type: text/plain"),
    ("Sec-Fetch-Site: same-site", "Origin: http://localhost:1", "Content-Type: text/plain"),
    # A name that was bound anew to the address of this server.
    ("Origin: http://test.evil.example", "Content-Type: text/plain"),
]
OWN = [
    ("Content-Type: text/plain",),
    ("Sec-Fetch-Site: same-origin", "Origin: https://behind.a.proxy", "Content-Type: text/plain"),
    ("Sec-Fetch-Site: none", "Content-Type: text/plain"),
]


@pytest.mark.parametrize("lines", FOREIGN)
def test_a_page_of_another_site_changes_nothing(server: Server, lines: tuple[str, ...]) -> None:
    for method, path, body in (
        ("POST", "/tasks/content/jobs", b"x"),
        ("POST", "/jobs", submission("nothing")),
        ("PUT", "/jobs/a-forged-key", submission("nothing")),
        ("DELETE", "/jobs/a-forged-key", None),
    ):
        answer = server.ask(request(method, path, *lines, body=body))
        assert (answer.status, answer.json["type"]) == (403, "urn:headway:problem:origin")
    # A page cannot read what it may not: nothing allows its origin.
    assert server.get("/jobs?state=queued", *lines).status == 200
    assert "access-control-allow-origin" not in server.get("/healthz", *lines).headers


@pytest.mark.parametrize("lines", OWN)
def test_others_change_what_they_will(server: Server, lines: tuple[str, ...]) -> None:
    assert server.ask(request("POST", "/tasks/content/jobs", *lines, body=b"x")).status == 202


def test_a_page_of_this_server_may_submit(server: Server) -> None:
    # Its Host is "localhost": see request.
    lines = ("Origin: http://localhost", "Content-Type: text/plain")
    assert server.ask(request("POST", "/tasks/content/jobs", *lines, body=b"x")).status == 202
