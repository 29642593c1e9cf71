"""The numbers and the orders of precedence in docs/protocol.md, one row each.

Each row quotes the page, so neither changes without the other. A number is tried at its limit and one past it. An order
is tried by a request to which both refusals apply.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from headway.core import errors
from headway.core.errors import HeadwayError
from headway.protocol.http.problems import REFUSALS

from tests.conftest import Start
from tests.each import each
from tests.end_to_end.process import Gate, Server, launch, settles
from tests.protocol.api.test_batches import batch, one
from tests.protocol.wire import Answer, post, request, submission

PROTOCOL = (Path(__file__).parents[3] / "docs/protocol.md").read_text()
JSON = "Content-Type: application/json"
DAY_S = 86_400
KEY = "x" * 200


def quoted(text: str) -> str:
    """``text`` of the page, wherever its lines break."""
    assert " ".join(text.split()) in " ".join(PROTOCOL.split()), f"docs/protocol.md does not say: {text}"
    return text


def reason(answer: Answer) -> str:
    """The reason in a problem document."""
    return str(answer.json["type"]).removeprefix("urn:headway:problem:")


def put(key: str) -> bytes:
    return request("PUT", f"/jobs/{key}", JSON, body=submission("nothing"))


# What the page says; the last that is taken and its code, the first that is not and its code.
NUMBERS = [
    (
        "| `priority` | 0 to 9",
        post(submission("nothing", priority=0)),
        202,
        post(submission("nothing", priority=-1)),
        422,
    ),
    (
        "0 to 9, 9 is taken first",
        post(submission("nothing", priority=9)),
        202,
        post(submission("nothing", priority=10)),
        422,
    ),
    (
        "seconds until it is ready, up to 30 days; 0 if left out",
        post(submission("nothing", delay=30 * DAY_S)),
        202,
        post(submission("nothing", delay=30 * DAY_S + 1)),
        422,
    ),
    (
        "seconds an attempt may take, up to a day",
        post(submission("nothing", timeout=DAY_S)),
        202,
        post(submission("nothing", timeout=DAY_S + 1)),
        422,
    ),
    (
        "whatever it does, up to 60 days",
        post(submission("nothing", deadline=60 * DAY_S)),
        202,
        post(submission("nothing", deadline=60 * DAY_S + 1)),
        422,
    ),
    (
        "attempts after the first, up to 1000",
        post(submission("nothing", retries=1000)),
        202,
        post(submission("nothing", retries=1001)),
        422,
    ),
    (
        "A key is 1 to 200 of the characters",
        post(submission("nothing"), f"Idempotency-Key: {KEY}"),
        202,
        post(submission("nothing"), f"Idempotency-Key: {KEY}x"),
        422,
    ),
    ("A key is 1 to 200 of the characters", put(KEY), 202, put(KEY + "x"), 422),
    ("A key is 1 to 200 of the characters `A-Z a-z 0-9 . _ ~ -`", put("aZ0._~-"), 202, put("a+b"), 422),
    ("A JSON array of 1 to 1,000 submissions", batch([one("nothing")]), 202, batch([]), 422),
    (
        "A JSON array of 1 to 1,000 submissions",
        batch([one("nothing")] * 1000),
        202,
        batch([one("nothing")] * 1001),
        422,
    ),
    (
        "`limit` is 50 if left out and 1000 at most",
        request("GET", "/jobs?state=failed&limit=1000"),
        200,
        request("GET", "/jobs?state=failed&limit=1001"),
        422,
    ),
    (
        "at most 8, each of 1 to 100 characters",
        post(b'{"task":"nothing","tags":[%b]}' % b",".join(b'"%b"' % (b"x" * 100) for _ in range(8))),
        202,
        post(b'{"task":"nothing","tags":[%b]}' % b",".join(b'"%d"' % number for number in range(9))),
        422,
    ),
    (
        "each of 1 to 100 characters",
        post(b'{"task":"nothing","tags":["x"]}'),
        202,
        post(b'{"task":"nothing","tags":["%b"]}' % (b"x" * 101)),
        422,
    ),
    (
        "`error` of 1 to 200",
        request("GET", f"/jobs?error={'x' * 200}"),
        200,
        request("GET", f"/jobs?error={'x' * 201}"),
        422,
    ),
]


@each("text, last, taken, first, refused", NUMBERS, ids=[row[0][:40] for row in NUMBERS])
def test_a_number_is_exact(server: Server, text: str, last: bytes, taken: int, first: bytes, refused: int) -> None:
    quoted(text)
    answer = server.ask(last)
    # The key of 200 may have come before.
    assert answer.status == taken or answer.headers.get("idempotency-replayed"), answer.raw
    if "location" in answer.headers and not answer["location"].startswith("/batches"):
        server.delete(answer["location"])
    assert server.ask(first).status == refused


# A setting, what the page says of it, and a request of so many bytes or lines with the code at and past the setting.
SETTINGS: list[tuple[str, int, str, Any, int]] = [
    (
        "limits__request_line_bytes",
        100,
        "| 414 | `target-too-long` | request line over `limits.request_line_bytes`",
        lambda size: request("GET", "/healthz?" + "x" * (size - len("/healthz?"))),
        414,
    ),
    (
        "limits__headers",
        8,
        "| 431 | `head-too-large` | more than `limits.headers` lines",
        lambda lines: request("GET", "/healthz", *["X: x"] * (lines - 1)),
        431,
    ),
    (
        "limits__body_bytes",
        500,
        "| 413 | `too-large` | content over `limits.body_bytes`",
        lambda size: post(submission("nothing", "x" * (size - len(submission("nothing", ""))))),
        413,
    ),
]


@pytest.mark.parametrize(("setting", "value", "text", "sent", "code"), SETTINGS, ids=[row[0] for row in SETTINGS])
def test_a_limit_is_exact(start: Start, setting: str, value: int, text: str, sent: Any, code: int) -> None:
    quoted(text)
    server = start(**{setting: value})
    assert server.ask(sent(value)).status in (200, 202)
    with server.wire() as wire:
        answer = wire.ask(sent(value + 1))
        assert (answer.status, answer["connection"]) == (code, "close")
        wire.read_end()


def test_a_submission_that_says_nothing_has_the_defaults(one_worker: Server, gate: Gate) -> None:
    quoted("5 if left out")
    quoted("any JSON value; `null` if left out")
    one_worker.wait_for(one_worker.submit("until_file", gate.path), "running")
    plain = one_worker.ask(post(b'{"task":"give"}'))["location"]
    one_worker.posted.append(plain)
    # It stands behind one of priority 6, before one of 4, and beside one of 5.
    others = [one_worker.submit("nothing", priority=priority) for priority in (4, 5, 6)]
    settles(lambda: [one_worker.head(path)["job-position"] for path in (plain, *others)], ["1", "3", "2", "0"])
    gate.open()
    one_worker.wait_for(plain, "succeeded")
    assert one_worker.get(f"{plain}/result").body == b"null"


def test_a_list_has_fifty_if_nothing_is_said(server: Server) -> None:
    quoted("`limit` is 50 if left out and 1000 at most")
    path = server.ask(batch([one("nothing")] * 60))["location"]
    while server.head(path).status == 202:
        pass
    assert len(server.get("/jobs?state=succeeded").json["jobs"]) == 50
    assert len(server.get("/jobs?state=succeeded&limit=55").json["jobs"]) == 55


def test_an_answer_is_held_as_long_as_the_setting_and_no_longer(start: Start, gate: Gate) -> None:
    quoted("`http.wait_most` at most, and the answer has `Preference-Applied: wait=n` with the n that was used")
    server = start(http__wait_most=1)
    path = server.submit("until_file", gate.path)
    assert server.head(path, "Prefer: wait=60")["preference-applied"] == "wait=1"
    gate.open()


# What each state is answered: the first table of the page and that of HEAD.
STATES = {
    "scheduled": (202, {"retry-after", "retry-after-ms", "job-position"}),
    "queued": (202, {"retry-after", "retry-after-ms", "job-position"}),
    "running": (202, {"retry-after", "retry-after-ms", "job-attempt"}),
    "retrying": (202, {"retry-after", "retry-after-ms", "job-position", "job-attempt"}),
    "succeeded": (200, {"expires", "server-timing"}),
    "failed": (424, {"job-reason", "job-attempt", "expires"}),
    "cancelled": (410, set()),
}


@pytest.fixture(scope="module")
def one_of_each(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("contract")
    gate = Gate(folder / "gate")
    settings = {"workers": 2, "drain_linger": 0, "jobs__backoff": 60, "jobs__backoff_max": 60}
    with launch(folder, settings) as server:
        paths = {
            "succeeded": server.run("nothing"),
            "failed": server.run("fail"),
            "retrying": server.submit("fail", retries=1),
        }
        server.wait_for(paths["retrying"], "retrying")
        paths["running"] = server.submit("until_file", gate.path)
        server.submit("until_file", gate.path)
        server.wait_for(paths["running"], "running")
        paths |= {"queued": server.submit("nothing"), "scheduled": server.submit("nothing", delay=1000)}
        paths["cancelled"] = server.submit("nothing", delay=1000)
        server.delete(paths["cancelled"])
        yield server, paths
        gate.open()
        server.clear()


@pytest.mark.parametrize("state", STATES)
def test_each_state_has_its_code_and_its_headers(one_of_each: tuple[Server, dict[str, str]], state: str) -> None:
    server, paths = one_of_each
    code, headers = STATES[state]
    for method in ("HEAD", "GET"):
        answer = server.ask(request(method, paths[state]))
        assert (answer.status, answer["job-state"]) == (code, state)
        assert headers <= answer.names
        assert int(answer.headers.get("retry-after", 1)) >= 1
    result = server.get(f"{paths[state]}/result")
    assert (result.status, result["job-state"]) == (code, state)


@pytest.mark.parametrize("state", sorted(STATES.keys() - {"failed"}))
def test_only_what_failed_can_be_resubmitted(one_of_each: tuple[Server, dict[str, str]], state: str) -> None:
    quoted("409 `not-failed` for a job that did not fail")
    server, paths = one_of_each
    answer = server.ask(request("POST", f"{paths[state]}/retry", body=b""))
    assert (answer.status, reason(answer)) == (409, "not-failed")


def test_every_reason_is_documented_with_its_code() -> None:
    by_engine = {
        (kind.status, kind.reason)
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, HeadwayError) and kind.status != 500
    }
    ours = {(status, name) for name, (status, _) in REFUSALS.items()} | by_engine
    documented = {
        (int(code), name) for code, name in re.findall(r"^\| (\d{3}) \| `([a-z-]+)` \|", PROTOCOL, re.MULTILINE)
    }
    assert ours <= documented
    assert documented - ours <= {(500, "journal")}


# Which is said of two refusals that apply at once: the order in which the page lists them.
ORDER = "The first that applies is answered"
NONE = request("GET", "/jobs/none")
UNKNOWN = submission("no-such-task")
ORDERS = [
    ("target, then number of lines", request("GET", "/" + "x" * 9000, *["X: x"] * 200), 414, "target-too-long"),
    (
        "framing, then route",
        request("POST", "/nowhere", JSON, "Transfer-Encoding: chunked", body=b"{}"),
        400,
        "bad-request",
    ),
    (
        "expectation, then media type",
        request("POST", "/jobs", "Content-Type: a/b", "Expect: x", body=b"{}"),
        417,
        "expectation",
    ),
    (
        "size, then media type",
        request("POST", "/jobs", "Content-Type: a/b", "Content-Length: 9999999"),
        413,
        "too-large",
    ),
    ("size, then route", request("POST", "/nowhere", JSON, "Content-Length: 9999999"), 413, "too-large"),
    ("length, then media type", request("POST", "/jobs", "Content-Type: a/b"), 411, "length-required"),
    ("route, then method", request("PATCH", "/nowhere", JSON, body=b"{}"), 404, "not-found"),
    ("method, then job", request("POST", "/jobs/none", JSON, body=b"{}"), 405, "method"),
    ("method, then media type", request("DELETE", "/jobs", "Content-Type: a/b", body=b"{"), 405, "method"),
    ("media type, then JSON", request("POST", "/jobs", "Content-Type: a/b", body=b"{"), 415, "media-type"),
    ("media type, then key", request("POST", "/jobs", "Idempotency-Key: a b", body=b"{}"), 415, "media-type"),
    ("key, then JSON", post(b"{", "Idempotency-Key: a b"), 422, "invalid"),
    ("key, then JSON of a batch", request("POST", "/batches", JSON, "Idempotency-Key: a b", body=b"{"), 422, "invalid"),
    ("JSON, then members", post(b'{"task":1,'), 400, "malformed-json"),
    ("members, then task", post(submission("no-such-task", priority=99)), 422, "invalid"),
    ("members of a batch, then task", batch([one("no-such-task"), one("nothing", priority=99)]), 422, "invalid"),
    ("job, then media type", request("POST", "/jobs/none/retry", "Content-Type: a/b", body=b"{"), 404, "not-found"),
]


@pytest.mark.parametrize(("sent", "status", "why"), [row[1:] for row in ORDERS], ids=[row[0] for row in ORDERS])
def test_the_first_that_applies_is_answered(server: Server, sent: bytes, status: int, why: str) -> None:
    quoted(ORDER)
    answer = server.ask(sent)
    assert (answer.status, reason(answer)) == (status, why)


def test_a_key_that_came_with_other_content_is_said_before_what_is_wrong_with_that(server: Server) -> None:
    quoted(ORDER)
    key = "Idempotency-Key: contract-order"
    assert server.ask(post(submission("nothing"), key)).status == 202
    for body in (b"{", UNKNOWN, submission("nothing", priority=99)):
        for target, content in (("/jobs", body), ("/batches", b"[%b]" % body), ("/tasks/nothing/jobs", body)):
            answer = server.ask(request("POST", target, JSON, key, body=content))
            assert (answer.status, reason(answer)) == (422, "key-reused"), target


def test_who_is_over_the_rate_is_told_so_before_anything_about_the_content(start: Start) -> None:
    quoted(ORDER)
    window = {"rates__submits_window": 600, "rates__polls_window": 600}
    server = start(rates__submits=2, rates__polls=1, **window)
    taken = post(submission("nothing"), "Idempotency-Key: k")
    path = server.ask(taken)["location"]
    assert server.ask(post(submission("nothing"))).status == 202
    server.head(path)
    for sent in (post(b"{"), post(UNKNOWN), taken, NONE, request("DELETE", path), put("k"), batch([one("nothing")])):
        assert reason(server.ask(sent)) == "rate"
    # Refusals count as well: to be refused is no way around the rate.
    assert reason(server.ask(request("PATCH", path))) == "rate"
    # Those by which a server is watched have none.
    assert reason(server.ask(request("PATCH", "/healthz"))) == "method"
    for content in ([], [one("no-such-task")], [one("nothing", priority=99)] * 3):
        assert reason(server.ask(batch(content))) == "rate"


def test_a_batch_is_counted_by_its_jobs_once_it_is_read(start: Start) -> None:
    quoted(ORDER)
    server = start(rates__submits=3, rates__submits_window=600)
    assert reason(server.ask(batch([one("nothing", priority=99)] * 4))) == "invalid"
    assert reason(server.ask(batch([one("no-such-task")] * 4))) == "batch-over-rate"
    assert reason(server.ask(batch([one("no-such-task")] * 3))) == "rate"


def test_what_is_wrong_with_a_submission_is_said_before_that_there_is_no_room(start: Start, gate: Gate) -> None:
    quoted(ORDER)
    server = start(workers=1, queue__size=1)
    known = post(submission("until_file", gate.path), "Idempotency-Key: k")
    server.wait_for(server.ask(known)["location"], "running")
    waiting = server.submit("nothing")
    for sent, why in (
        (post(UNKNOWN), "unknown-task"),
        (batch([one("no-such-task")]), "unknown-task"),
        (post(b"{"), "malformed-json"),
        (request("POST", "/jobs/none/retry", body=b""), "not-found"),
        (request("POST", f"{waiting}/retry", body=b""), "not-failed"),
        (post(submission("nothing")), "queue-full"),
        (batch([one("nothing")]), "queue-full"),
    ):
        assert reason(server.ask(sent)) == why
    # A submission that came before needs no place.
    again = server.ask(known)
    assert (again.status, again["idempotency-replayed"]) == (202, "true")
    gate.open()
