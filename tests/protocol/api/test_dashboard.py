"""The files of the dashboard, as a browser gets them. tests/dashboard drives a browser."""

from __future__ import annotations

import gzip
import re
from hashlib import sha256
from pathlib import Path

import pytest

from tests.each import each
from tests.end_to_end.process import Server

FOLDER = Path(__file__).parents[3] / "protocol" / "dashboard"
FILES = sorted(path.name for path in FOLDER.iterdir())
# The two files that are not ours, as npm has them.
VENDORED = {
    "preact.js": "bdcbd9abdf2c77c5c45326eab42191e949222d479d0d5f69467387a77040cb55",
    "htm.js": "ab33dd3f38059b9be4d5f5350128eefb2356639c4e0bbe9d9e8b3ba75847e9e4",
}
# Bytes of all files together, compressed.
MOST_BYTES = 60 * 1024


@each("name", [name for name in FILES if not name.endswith((".md", ".txt"))])
def test_each_file_is_served_as_it_stands_and_may_load_nothing_from_elsewhere(server: Server, name: str) -> None:
    answer = server.get(f"/dashboard/{name}")
    assert answer.status == 200
    assert answer.body == (FOLDER / name).read_bytes()
    policy = answer["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    assert "unsafe" not in policy
    assert answer["x-content-type-options"] == "nosniff"
    assert answer["vary"] == "Accept-Encoding"
    same = server.get(f"/dashboard/{name}", f"If-None-Match: {answer['etag']}")
    # RFC 9110, 15.4.5: a cache has to know it from a 304, too.
    assert (same.status, same["vary"]) == (304, "Accept-Encoding")


def test_all_files_together_are_small_on_the_wire(server: Server) -> None:
    sent = {
        name: server.get(f"/dashboard/{name}", "Accept-Encoding: br, gzip") for name in FILES if name != "LICENSES.txt"
    }
    assert {answer["content-encoding"] for answer in sent.values()} == {"gzip"}
    assert all(gzip.decompress(answer.body) == (FOLDER / name).read_bytes() for name, answer in sent.items())
    assert sum(len(answer.body) for answer in sent.values()) < MOST_BYTES


@pytest.mark.parametrize(
    ("accepts", "coded"),
    [("gzip", True), ("deflate, GZIP;q=0.5", True), ("gzip;q=0", False), ("br", False), ("", False)],
)
def test_a_file_is_compressed_for_those_who_take_that(server: Server, accepts: str, coded: bool) -> None:
    answer = server.get("/dashboard/app.js", *([f"Accept-Encoding: {accepts}"] if accepts else []))
    assert ("content-encoding" in answer.headers) == coded


@pytest.mark.parametrize(
    "name", ["no.js", "..%2fapi%2fdashboard.py", "%2e%2e", "dashboard.py", "a" * 300, "LICENSES.txt", ""]
)
def test_no_other_file_is_served(server: Server, name: str) -> None:
    assert server.get(f"/dashboard/{name}").status == 404


def test_a_browser_gets_the_page_at_the_root(server: Server) -> None:
    answer = server.get("/", "Accept: text/html,application/xhtml+xml,*/*;q=0.8")
    assert b'<script type="module" src="dashboard/app.js">' in answer.body
    assert b'<base href="/" />' in answer.body


def test_each_file_that_another_one_loads_is_there() -> None:
    found = set()
    for name in FILES:
        if name.endswith(".js") and name not in VENDORED:
            found |= set(re.findall(r'"\./([\w.]+)"', (FOLDER / name).read_text()))
    assert found
    assert found <= set(FILES)


@pytest.mark.parametrize("name", VENDORED)
def test_the_files_of_others_are_as_they_came_and_have_their_licence(name: str) -> None:
    assert sha256((FOLDER / name).read_bytes()).hexdigest() == VENDORED[name]
    assert name.removesuffix(".js") in (FOLDER / "LICENSES.txt").read_text()
