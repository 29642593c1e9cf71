"""Each row of the contract's table of refusals: bytes in, bytes out."""

from __future__ import annotations

import json

import pytest
from headway.core import ids

from tests.conftest import Start
from tests.each import each
from tests.end_to_end.process import Gate, Server, settles
from tests.protocol.wire import Answer, post, request, submission

NOTHING = submission("nothing")
TEXT = "Content-Type: text/plain"
JSON = "Content-Type: application/json"
MEBIBYTE = 1 << 20


def check_problem(answer: Answer, status: int) -> None:
    """See that the answer is a problem document (RFC 9457) about no job."""
    assert answer.status == status, answer.raw
    assert "job-state" not in answer.headers
    assert answer["content-type"] == "application/problem+json"
    assert answer.json["status"] == status
    assert all(answer.json[member] for member in ("type", "title", "detail"))


NINES = b"9" * 400
TOO_LARGE = [
    b'"payload":1e999',
    b'"payload":-1E+999',
    b'"payload":{"a":[{"b":1e0000309}]}',
    b'"payload":[1,2,%b.5]' % NINES,
    b'"payload":%be99' % NINES[:250],
    b'"payload":1.8e308',
    b'"delay":1e999',
    b'"timeout":1e400',
    b'"deadline":%b.0' % NINES,
    b'"priority":1e999',
]
STAYING = [
    pytest.param(post(b"{"), 400, {}, id="not-json"),
    pytest.param(post(b""), 400, {}, id="empty-body"),
    pytest.param(post(b'{"task":"nothing"} x'), 400, {}, id="json-and-more"),
    pytest.param(post(b'{"task":1'), 400, {}, id="cut-short-after-a-wrong-field"),
    pytest.param(post(b'{"task":1,"payload":"\xff"}'), 400, {}, id="not-utf-8-after-a-wrong-field"),
    pytest.param(post(b'{"task":"nothing","payload":"\xff"}'), 400, {}, id="not-utf-8-in-the-payload"),
    pytest.param(post(b'{"task":"nothing","payload":"\xed\xa0\x80"}'), 400, {}, id="surrogate-in-the-payload"),
    pytest.param(post(b'\xef\xbb\xbf{"task":"nothing"}'), 400, {}, id="byte-order-mark"),
    pytest.param(post(b'{"task":"nothing","payload":NaN}'), 400, {}, id="nan"),
    pytest.param(post(b'{"task":1,"payload":%b}' % (b"[" * 9999 + b"]" * 9999)), 400, {}, id="nested-after-a-fault"),
    pytest.param(post(b'{"task":"nothing","payload":%b}' % (b"[" * 9999)), 400, {}, id="deeply-nested"),
    *(
        pytest.param(post(b'{"task":"nothing",%b}' % member), 400, {}, id=f"number-too-large-{number}")
        for number, member in enumerate(TOO_LARGE)
    ),
    pytest.param(request("GET", "/nowhere"), 404, {}, id="no-such-route"),
    pytest.param(request("GET", "/jobs%2Fx"), 404, {}, id="a-slash-that-is-escaped"),
    pytest.param(request("GET", "/jobs/"), 404, {}, id="empty-id"),
    pytest.param(request("GET", "/healthz/"), 404, {}, id="slash-at-the-end"),
    pytest.param(request("POST", "/jobs", TEXT, body=NOTHING), 415, {"accept": "application/json"}, id="text"),
    pytest.param(request("POST", "/jobs", body=NOTHING), 415, {"accept": "application/json"}, id="no-media-type"),
    pytest.param(post(NOTHING, "Content-Encoding: gzip"), 415, {"accept-encoding": "identity"}, id="gzip"),
]


@each("sent, status, headers", STAYING)
def test_refusal_leaves_the_connection_open(server: Server, sent: bytes, status: int, headers: dict[str, str]) -> None:
    with server.wire() as wire:
        answer = wire.ask(sent)
        check_problem(answer, status)
        assert answer.headers.items() >= headers.items()
        assert "connection" not in answer.headers
        assert wire.still_serves()


LONG = "/" + "x" * 8192
CLOSING = [
    pytest.param(request("POST", "/jobs", JSON), 411, id="no-length"),
    pytest.param(request("POST", "/jobs", JSON, version="1.0"), 411, id="no-length-in-1.0"),
    pytest.param(request("POST", "/jobs", JSON, f"Content-Length: {MEBIBYTE + 1}"), 413, id="too-large"),
    pytest.param(
        request("POST", "/jobs", JSON, "Transfer-Encoding: chunked") + b"100001\r\n" + bytes(MEBIBYTE + 1),
        413,
        id="too-large-chunk",
    ),
    pytest.param(
        request("POST", "/jobs", JSON, "Transfer-Encoding: chunked") + b"8000\r\n%b\r\n" % bytes(1 << 15) * 33,
        413,
        id="too-large-in-chunks",
    ),
    pytest.param(
        request("POST", "/jobs", JSON, f"Content-Length: {MEBIBYTE + 1}", "Expect: 100-continue"),
        413,
        id="too-large-instead-of-100",
    ),
    pytest.param(request("GET", LONG), 414, id="long-target"),
    pytest.param(request("GET", LONG * 40), 414, id="very-long-target"),
    pytest.param(post(NOTHING, "Expect: something-else"), 417, id="unknown-expectation"),
    pytest.param(request("GET", "/healthz", f"X: {'x' * 16384}"), 431, id="long-header"),
    pytest.param(request("GET", "/healthz", f"{'x' * 16384}: x"), 431, id="long-header-name"),
    pytest.param(request("GET", "/healthz", *[f"X{n}: {'x' * 1000}" for n in range(17)]), 431, id="large-head"),
    pytest.param(request("GET", "/healthz", *["X: x"] * 100), 431, id="101-headers"),
    pytest.param(request("GET", "/healthz", "Host: other", *["X: x"] * 100), 400, id="two-faults-the-first-counts"),
    pytest.param(request("BREW", "/jobs"), 501, id="unknown-method"),
    pytest.param(request("GETT", "/jobs"), 501, id="longer-method"),
    pytest.param(request("get", "/healthz"), 501, id="lower-case-method"),
    pytest.param(request("DESCRIBE", "/healthz"), 501, id="method-of-another-protocol"),
    pytest.param(b"\r\n" + request("BREW", "/jobs"), 501, id="unknown-method-after-an-empty-line"),
    pytest.param(request("BR(W", "/jobs"), 400, id="no-token"),
    pytest.param(b"BREW  /jobs HTTP/1.1\r\nHost: test\r\n\r\n", 400, id="unknown-method-and-two-spaces"),
    pytest.param(b"BREW /jobs\r\nHost: test\r\n\r\n", 400, id="unknown-method-and-no-version"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, id="tls"),
    pytest.param(request("GET", "/jobs/%6"), 400, id="escape-cut-short"),
    pytest.param(request("GET", "/%zzobs"), 400, id="no-escape"),
    pytest.param(request("GET", "/jobs%"), 400, id="percent-sign"),
    pytest.param(
        request("POST", "/jobs", JSON, "Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", 501, id="unknown-coding"
    ),
    pytest.param(request("GET", "/healthz", version="2.0"), 505, id="http-2"),
    pytest.param(request("GET", "/healthz", version="3.0"), 505, id="http-3"),
    pytest.param(request("CONNECT", "test:80"), 405, id="connect"),
]


@each("sent, status", CLOSING)
def test_refusal_closes(server: Server, sent: bytes, status: int) -> None:
    with server.wire() as wire:
        wire.send(sent)
        answer = wire.read()
        check_problem(answer, status)
        assert answer["connection"] == "close"
        wire.read_end()


@each(
    "sent",
    [
        pytest.param(request("HEAD", "/jobs/0"), id="404"),
        pytest.param(request("HEAD", "/jobs?limit=0"), id="422"),
        pytest.param(request("HEAD", "/jobs/retry"), id="405"),
        pytest.param(b"HEAD /healthz HTTP/1.1\r\n\r\n", id="no-host"),
        pytest.param(request("HEAD", "/healthz", "Content-Length: 1") + b"x", id="content"),
        pytest.param(request("HEAD", LONG), id="414"),
        pytest.param(request("HEAD", "/healthz", "Expect: x"), id="417"),
        pytest.param(request("HEAD", "/healthz", *["X: x"] * 100), id="431"),
        pytest.param(request("HEAD", "/healthz", "X : x"), id="space-before-colon"),
        pytest.param(request("HEAD", "/healthz", version="2.0"), id="505"),
    ],
)
def test_refusal_of_head_has_no_body(server: Server, sent: bytes) -> None:
    with server.wire() as wire:
        wire.send(sent)
        wire.finish()
        assert wire.read("HEAD").status >= 400
        wire.read_end()


def test_refusal_reaches_a_client_that_goes_on_sending(server: Server) -> None:
    with server.wire() as wire:
        wire.send(post(bytes(5 * MEBIBYTE)))
        assert wire.read().status == 413
        wire.read_end()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (post(submission("give", "x" * (MEBIBYTE - 31))), 202),
        (request("GET", "/healthz?" + "x" * 8183), 200),
        (request("GET", "/healthz", *["X: x"] * 99), 200),
        (request("GET", "/healthz", "X: " + "x" * 16000), 200),
    ],
    ids=["body", "target", "100-headers", "head"],
)
def test_at_the_limit_is_not_over_it(server: Server, sent: bytes, status: int) -> None:
    assert server.ask(sent).status == status


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("PUT", "/jobs", "GET, HEAD, OPTIONS, POST"),
        ("POST", "/jobs/0", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        ("DELETE", "/jobs/0/result", "GET, HEAD, OPTIONS"),
        ("TRACE", "/readyz", "GET, HEAD, OPTIONS"),
        ("DELETE", "/stats", "GET, HEAD, OPTIONS"),
        ("POST", "/metrics", "GET, HEAD, OPTIONS"),
    ],
)
def test_405_tells_what_is_allowed(server: Server, method: str, target: str, allow: str) -> None:
    answer = server.ask(request(method, target, body=b""))
    check_problem(answer, 405)
    assert answer["allow"] == allow


FAULTS = [
    ({}, ["task"]),
    ({"task": None}, ["task"]),
    ({"task": ""}, ["task"]),
    ({"task": "x" * 201}, ["task"]),
    ({"task": "nothing", "priority": 10}, ["priority"]),
    ({"task": "nothing", "priority": -1}, ["priority"]),
    ({"task": "nothing", "priority": 5.5}, ["priority"]),
    ({"task": "nothing", "priority": True}, ["priority"]),
    ({"task": "nothing", "priority": "5"}, ["priority"]),
    ({"task": "nothing", "priority": 10**40}, ["priority"]),
    ({"task": "nothing", "delay": -1}, ["delay"]),
    ({"task": "nothing", "delay": 10**8}, ["delay"]),
    ({"task": "nothing", "timeout": 0}, ["timeout"]),
    ({"task": "nothing", "timeout": "30"}, ["timeout"]),
    ({"task": "nothing", "retries": -1}, ["retries"]),
    ({"task": "nothing", "retries": 1.5}, ["retries"]),
    ({"task": "nothing", "prioritty": 5}, ["prioritty"]),
    ({"taks": "nothing", "delay": -1, "retries": "x"}, ["taks", "delay", "retries", "task"]),
    ([], [""]),
    ("nothing", [""]),
    (None, [""]),
]


@each("members, fields", FAULTS, ids=[str(members)[:40] for members, _ in FAULTS])
def test_422_names_each_wrong_field(server: Server, members: object, fields: list[str]) -> None:
    answer = server.ask(post(json.dumps(members).encode()))
    check_problem(answer, 422)
    assert sorted(fault["field"] for fault in answer.json["errors"]) == sorted(fields)
    assert all(field in answer.json["detail"] for field in fields)


@pytest.mark.parametrize("depth", [970, 980, 990])
def test_nested_value_in_a_wrong_field_is_refused(server: Server, depth: int) -> None:
    answer = server.ask(post(b'{"task":%b}' % (b"[" * depth + b"]" * depth)))
    assert answer.status in {400, 422}


def test_member_given_twice_is_refused_with_its_name(server: Server) -> None:
    answer = server.ask(post(b'{"task":"nothing","priority":99,"priority":5}'))
    check_problem(answer, 422)
    assert [fault["field"] for fault in answer.json["errors"]] == ["priority"]


def test_number_beyond_floats_is_refused(server: Server) -> None:
    assert server.ask(post(b'{"task":"nothing","delay":1e999}')).status in {400, 422}


def test_unknown_task_is_named_with_those_there_are(server: Server) -> None:
    answer = server.ask(post(submission("notthing")))
    check_problem(answer, 422)
    assert [fault["field"] for fault in answer.json["errors"]] == ["task"]
    assert "notthing" in answer.json["detail"]
    assert "nothing" in answer.json["detail"]


def test_answer_to_many_faults_is_not_many_times_the_request(server: Server) -> None:
    body = b"{%b}" % b",".join(b'"%x":1' % n for n in range(80_000))
    answer = server.ask(post(body))
    check_problem(answer, 422)
    assert len(answer.body) < len(body)


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("zeros", [4299, 5000])
def test_length_of_thousands_of_digits_is_no_defect(server: Server, method: str, zeros: int) -> None:
    lines = ("Content-Type: application/json", f"Content-Length: {'0' * zeros}{len(NOTHING)}")
    with server.wire() as wire:
        answer = wire.ask(request(method, "/jobs" if method == "POST" else f"/jobs/a-key-{zeros}", *lines) + NOTHING)
        assert answer.status in {202, 400}
    assert server.head("/healthz").status == 200


@pytest.mark.parametrize("name", ["priority", "delay", "retries", "task", "colour"])
def test_number_of_thousands_of_digits_is_refused(server: Server, name: str) -> None:
    answer = server.ask(post(b'{"task":"nothing","%b":%b}' % (name.encode(), b"9" * 5000)))
    assert answer.status in {400, 422}


@pytest.mark.parametrize(("more", "status"), [(0, 200), (1, 431)])
def test_head_bytes_are_exact(start: Start, more: int, status: int) -> None:
    server = start(limits__head_bytes=1000)
    # Each line counts its name, its value, and four for colon, space, CR and LF.
    used = len("Host") + len("localhost") + 4 + len("X") + 4
    assert server.get("/healthz", "X: " + "x" * (1000 - used + more)).status == status


LONG_TEXT = b'"%b"' % (b"x" * 100_000)


@each(
    "value, status",
    [
        (b"1e999", 400),
        (b'{"a":[-1E+400 ]}', 400),
        (b"9" * 400 + b".5", 400),
        (rb'"\\",1e999', 400),
        (b"1e100", 202),
        (b'"[1e999,","1e999"', 202),
        (rb'"\",1e999,"', 202),
        (b'"a0e123","0e999"', 202),
    ],
)
def test_number_beyond_floats_in_long_content_is_refused_and_in_a_text_it_is_not(
    server: Server, value: bytes, status: int
) -> None:
    answer = server.ask(post(b'{"task":"nothing","payload":[%b,%b]}' % (LONG_TEXT, value)))
    assert answer.status == status


def test_long_content_is_told_its_first_fault_in_words(server: Server) -> None:
    body = b'[{"task":"nothing","payload":"%b","priority":10,"colour":1}]' % (b"x" * 100_000)
    answer = server.ask(request("POST", "/batches", "Content-Type: application/json", body=body))
    check_problem(answer, 422)
    (fault,) = answer.json["errors"]
    assert fault["field"] == "[0].priority"
    assert "from 0 to 9" in fault["detail"]
    assert server.ask(post(b'{"priority":10,"payload":"%b"' % (b"x" * 100_000))).status == 400


def test_full_queue_is_429_with_a_rate_limit(one_worker: Server, gate: Gate) -> None:
    one_worker.wait_for(one_worker.submit("until_file", gate.path), "running")
    for _ in range(5):
        one_worker.submit("nothing")
    one_worker.submit("nothing", delay=3600)
    answer = one_worker.ask(post(NOTHING))
    check_problem(answer, 429)
    assert answer["ratelimit-policy"] == '"queue";q=6;qu="concurrent-requests"'
    assert answer["ratelimit"] == f'"queue";r=0;t={answer["retry-after"]}'


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("POST", "/jobs", NOTHING),
        ("PUT", "/jobs/order-17", NOTHING),
        ("POST", "/batches", b"[%b]" % NOTHING),
        ("POST", "/tasks/nothing/jobs", b"17"),
    ],
)
def test_a_full_queue_keeps_no_client_from_sending_what_came_before_under_its_key(
    one_worker: Server, gate: Gate, method: str, target: str, body: bytes
) -> None:
    one_worker.wait_for(one_worker.submit("until_file", gate.path), "running")
    key = () if method == "PUT" else (f"Idempotency-Key: order-17{target.replace('/', '-')}",)

    def sent(*lines: str) -> bytes:
        return request(method, target, "Content-Type: application/json", *lines, body=body)

    first = one_worker.ask(sent(*key))
    assert first.status == 202
    for _ in range(5):
        one_worker.submit("nothing")
    with one_worker.wire() as wire:
        head, _, content = sent("Expect: 100-continue", *key).partition(b"\r\n\r\n")
        assert wire.ask(head + b"\r\n\r\n").status == 100
        again = wire.ask(content)
        assert (again["location"], again["idempotency-replayed"]) == (first["location"], "true")
    without_key = post(NOTHING, "Expect: 100-continue").partition(NOTHING)[0]
    settles(lambda: one_worker.ask(without_key).status, 429)


def test_queue_that_was_full_takes_jobs_again(one_worker: Server, gate: Gate) -> None:
    one_worker.wait_for(one_worker.submit("until_file", gate.path), "running")
    paths = [one_worker.submit("nothing") for _ in range(6)]
    with one_worker.wire() as wire:
        assert wire.ask(post(NOTHING)).status == 429
        assert wire.ask(request("DELETE", paths[3])).status == 204
        accepted = wire.ask(post(NOTHING))
        assert accepted.status == 202
        one_worker.posted.append(accepted["location"])
        assert wire.ask(post(NOTHING)).status == 429


LARGE = [1e308, -1.7e308, 1e-999, int("9" * 250), 12345678901234567890, "1e999", "e" + "9" * 400, {"1e999": "1e999"}]


@each("value", LARGE)
def test_numbers_that_a_float_holds_and_texts_are_taken(server: Server, value: object) -> None:
    assert server.submit("nothing", value).startswith("/jobs/")


@pytest.mark.parametrize("digits", ["0" * 36, "0123456789abcdef" * 2 + "0000", "ABCDEF0123" * 3 + "aBcDeF"])
def test_a_key_has_not_the_form_of_an_id(server: Server, digits: str) -> None:
    assert len(digits) == ids.ID_LENGTH
    put = request("PUT", f"/jobs/{digits}", JSON, body=NOTHING)
    for sent in (put, post(NOTHING, f"Idempotency-Key: {digits}"), post(NOTHING, f'Idempotency-Key: "{digits}"')):
        answer = server.ask(sent)
        assert (answer.status, answer.json["errors"][0]["field"]) == (422, "key")
    assert server.ask(post(NOTHING, f'Idempotency-Key: "{digits[1:]}"')).status == 202
