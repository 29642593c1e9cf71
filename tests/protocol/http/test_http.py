"""HTTP/1.1 and 1.0 as RFC 9110 and 9112 have it, where the request is a good one."""

from __future__ import annotations

import time

import pytest

from tests.each import each
from tests.end_to_end.process import Gate, Server
from tests.protocol.wire import Answer, post, request, submission

HEALTHZ = request("GET", "/healthz")
READYZ = request("GET", "/readyz")
NOTHING = submission("nothing")
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(NOTHING), NOTHING)
CHUNKED = ("Content-Type: application/json", "Transfer-Encoding: chunked")


def codes(server: Server, sent: bytes, methods: str) -> list[int]:
    """Send ``sent`` at once and then the end; return the codes of the answers to ``methods``, and see the end."""
    with server.wire() as wire:
        wire.send(sent)
        wire.finish()
        found = [wire.read(method).status for method in methods.split()]
        wire.read_end()
        return found


def test_connection_is_kept(server: Server) -> None:
    with server.wire() as wire:
        assert [wire.ask(HEALTHZ).body for _ in range(3)] == [b"ok\n"] * 3


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    sent = [HEALTHZ, READYZ, request("HEAD", "/healthz"), request("GET", "/nowhere"), post(NOTHING), HEALTHZ]
    with server.wire() as wire:
        wire.send(b"".join(sent))
        answers = [wire.read("HEAD" if data.startswith(b"HEAD") else "GET") for data in sent]
    assert [answer.status for answer in answers] == [200, 200, 200, 404, 202, 200]
    assert [answers[n].body for n in (0, 1, 5)] == [b"ok\n", b"ready\n", b"ok\n"]


def test_pipelined_job_can_be_asked_for_by_the_next_request(server: Server, gate: Gate) -> None:
    with server.wire() as wire:
        path = wire.ask(post(submission("until_file", gate.path)))["location"]
        server.wait_for(path, "running")
        wire.send(request("HEAD", path) + request("DELETE", path) + request("HEAD", path))
        assert [wire.read("HEAD").status for _ in range(3)] == [202, 202, 410]


def test_an_answer_that_waits_is_to_its_own_request_and_not_to_the_next(server: Server) -> None:
    # More than one turn of the loop takes, and than a list looks at in one.
    jobs = b"[%b]" % b",".join([NOTHING] * 999)
    batch = request("POST", "/batches", "Content-Type: application/json", body=jobs)
    with server.wire() as wire:
        wire.send(batch + request("GET", "/healthz", "Prefer: return=minimal"))
        made = wire.read()
        assert (len(made.json["jobs"]), "preference-applied" in made.headers) == (999, False)
        assert wire.read().body == b"ok\n"
        wire.send(request("GET", "/jobs?limit=1000") + request("HEAD", "/healthz"))
        assert len(wire.read().json["jobs"]) > 0
        assert wire.read("HEAD").status == 200


@pytest.mark.parametrize("line", ["Connection: close", "Connection: CLOSE", "Connection: keep-alive, close"])
def test_close_is_honoured_and_what_follows_is_not_answered(server: Server, line: str) -> None:
    with server.wire() as wire:
        wire.send(request("GET", "/healthz", line) + READYZ + b"rubbish")
        assert wire.read()["connection"] == "close"
        wire.read_end()


def test_nothing_is_done_after_close(server: Server) -> None:
    with server.wire() as wire:
        wire.send(request("GET", "/healthz", "Connection: close") + post(NOTHING, "Expect: 100-continue"))
        assert wire.read().status == 200
        wire.read_end()


def test_close_after_a_refusal_is_said(server: Server) -> None:
    with server.wire() as wire:
        answer = wire.ask(request("GET", "/nowhere", "Connection: close"))
        assert (answer.status, answer["connection"]) == (404, "close")
        wire.read_end()


@pytest.mark.parametrize("target", ["/healthz", "/nowhere", "/jobs"])
def test_http_1_0_closes(server: Server, target: str) -> None:
    with server.wire() as wire:
        assert wire.ask(request("GET", target, version="1.0"))["connection"] == "close"
        wire.read_end()


def test_http_1_0_needs_no_host(server: Server) -> None:
    assert server.ask(b"GET /healthz HTTP/1.0\r\n\r\n").status == 200


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(request("GET", "/healthz", "Connection: keep-alive", version="1.0"), id="200"),
        pytest.param(post(NOTHING, "Connection: keep-alive", version="1.0"), id="202"),
        pytest.param(request("HEAD", "/jobs/0", "Connection: keep-alive", version="1.0"), id="404"),
        pytest.param(request("PUT", "/jobs", "Connection: keep-alive", body=b"", version="1.0"), id="405"),
        pytest.param(post(b"{}", "Connection: keep-alive", version="1.0"), id="422"),
    ],
)
def test_http_1_0_is_told_when_its_connection_is_kept(server: Server, sent: bytes) -> None:
    with server.wire() as wire:
        assert wire.ask(sent)["connection"] == "keep-alive"
        assert wire.still_serves()


def test_100_continue_comes_before_the_content(server: Server) -> None:
    head, _, body = post(NOTHING, "Expect: 100-continue").partition(b"\r\n\r\n")
    with server.wire() as wire:
        interim = wire.ask(head + b"\r\n\r\n")
        assert interim.raw == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.send(body)
        assert wire.read().status == 202
        assert wire.still_serves()


def test_100_continue_keeps_its_place_behind_earlier_answers(server: Server) -> None:
    with server.wire() as wire:
        wire.send(HEALTHZ + post(NOTHING, "expect: 100-Continue") + READYZ)
        assert [wire.read().status for _ in range(4)] == [200, 100, 202, 200]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        pytest.param(request("POST", "/jobs", "Expect: 100-continue", "Content-Length: 9"), 415, id="media-type"),
        pytest.param(request("POST", "/nowhere", "Expect: 100-continue", "Content-Length: 9"), 404, id="no-route"),
        pytest.param(request("PUT", "/jobs", "Expect: 100-continue", "Content-Length: 9"), 405, id="method"),
    ],
)
def test_no_100_continue_for_what_is_refused(server: Server, head: bytes, status: int) -> None:
    with server.wire() as wire:
        assert wire.ask(head).status == status
        wire.read_end()


def test_http_1_0_gets_no_100_continue(server: Server) -> None:
    assert server.ask(post(NOTHING, "Expect: 100-continue", version="1.0")).status == 202


UPGRADE = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA")


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param(request("GET", "/healthz", *UPGRADE), 200, id="get"),
        pytest.param(post(NOTHING, *UPGRADE), 202, id="content"),
        pytest.param(request("POST", "/jobs", *CHUNKED, *UPGRADE) + CHUNKS, 202, id="chunks"),
        pytest.param(request("GET", "http://other/healthz", *UPGRADE), 200, id="absolute-form"),
        pytest.param(request("GET", "/healthz", "Connection: Upgrade", "Upgrade: websocket"), 200, id="websocket"),
    ],
)
def test_upgrade_is_ignored(server: Server, sent: bytes, expected: int) -> None:
    assert codes(server, sent + sent + HEALTHZ, "GET GET GET") == [expected, expected, 200]


def test_refusal_of_a_request_that_asks_to_upgrade(server: Server) -> None:
    assert codes(server, request("POST", "/jobs", *UPGRADE) + HEALTHZ, "POST") == [411]
    assert codes(server, request("GET", "/healthz", "Connection: close", *UPGRADE) + HEALTHZ, "GET") == [200]


@pytest.mark.parametrize(
    "target", ["http://elsewhere:81/healthz", "HTTP://test/healthz?a=b", "https://[::1]/healthz", "/healthz?a=/b?c"]
)
def test_target_in_absolute_form_or_with_a_query(server: Server, target: str) -> None:
    assert server.get(target).body == b"ok\n"


@each("host", ["", "a", "a.b-c_d", "127.0.0.1:8080", "[::1]", "[::1]:80", "a:", "%41", "xn--nxasmq6b"])
def test_good_host(server: Server, host: str) -> None:
    assert server.ask(f"GET /healthz HTTP/1.1\r\nHost:{host}\r\n\r\n".encode()).status == 200


def test_empty_lines_before_a_request_are_skipped(server: Server) -> None:
    assert codes(server, b"\r\n\r\n" + HEALTHZ + b"\r\n" + HEALTHZ, "GET GET") == [200, 200]


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(CHUNKS, id="one"),
        pytest.param(b"".join(b"1\r\n%c\r\n" % byte for byte in NOTHING) + b"0\r\n\r\n", id="of-one-byte"),
        pytest.param(b'%X;a=b;c="d"\r\n%b\r\n000;e\r\n\r\n' % (len(NOTHING), NOTHING), id="extensions"),
        pytest.param(b"%x\r\n%b\r\n0\r\nX: y\r\nZ: z\r\n\r\n" % (len(NOTHING), NOTHING), id="trailers"),
    ],
)
def test_chunked_content(server: Server, chunks: bytes) -> None:
    assert codes(server, request("POST", "/jobs", *CHUNKED) + chunks + HEALTHZ, "POST GET") == [202, 200]


def with_trailers(trailers: str) -> bytes:
    """Return a good submission with trailers after its last chunk."""
    chunks = f"{len(NOTHING):x}\r\n{NOTHING.decode()}\r\n0\r\n{trailers}\r\n\r\n"
    return request("POST", "/jobs", *CHUNKED) + chunks.encode()


TRAILERS = ["X: y", "Host: a b", "Host: a\r\nHost: b", "Expect: x", "Content-Type: text/plain"]


@pytest.mark.parametrize("trailers", [*TRAILERS, "Prefer: return=minimal", "If-None-Match: *"])
def test_trailer_is_never_a_header(server: Server, trailers: str) -> None:
    with server.wire() as wire:
        answer = wire.ask(with_trailers(trailers))
        assert (answer.status, "connection" in answer.headers) == (202, False)
        assert answer.json["state"] == "queued"
        assert wire.still_serves()


@pytest.mark.parametrize(
    "trailers",
    ["Content-Length: 5", "Transfer-Encoding: gzip", "Connection: close", "Connection: Upgrade\r\nUpgrade: h2c"],
)
def test_trailer_about_framing_is_refused(server: Server, trailers: str) -> None:
    with server.wire() as wire:
        assert wire.ask(with_trailers(trailers)).status == 400
        wire.read_end()


@each("size", [1000, 300_000, 500_000, 1_000_000])
@each("chunked", [False, True], ids=["length", "chunked"])
def test_large_contents_one_behind_the_other(server: Server, size: int, chunked: bool) -> None:
    body = submission("nothing", "x" * size)
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    sent = request("POST", "/jobs", *CHUNKED) + chunks if chunked else post(body)
    with server.wire() as wire:
        assert [wire.ask(sent).status for _ in range(5)] == [202] * 5


def test_content_of_a_get_is_read_and_ignored(server: Server) -> None:
    assert codes(server, request("GET", "/healthz", body=READYZ) + HEALTHZ, "GET GET") == [200, 200]


def without(answer: Answer, *names: str) -> dict[str, str]:
    """The headers besides those named and those that change with time."""
    return {name: answer[name] for name in answer.headers if name not in {"date", *names}}


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/nowhere", "/jobs?limit=0", "/jobs/0", "/jobs/0/result"])
def test_head_says_what_get_would_without_a_body(server: Server, path: str) -> None:
    get, head = server.get(path), server.head(path)
    assert head.body == b""
    assert head.status == get.status
    assert without(head) == without(get)


@pytest.mark.parametrize(("task", "status"), [("nothing", 200), ("fail", 424)])
def test_head_of_a_job_says_what_get_would_but_its_length(server: Server, task: str, status: int) -> None:
    path = server.run(task)
    with server.wire() as wire:
        # Of one moment, since some headers count seconds.
        wire.send(request("GET", path) + request("HEAD", path))
        get, head = wire.read(), wire.read("HEAD")
        wire.send(request("GET", path + "/result") + request("HEAD", path + "/result"))
        get_result, head_result = wire.read(), wire.read("HEAD")
    assert head.status == get.status == status
    assert without(head) == without(get, "content-length")
    assert without(head_result, "content-length", "content-type").items() <= without(get_result).items()


def test_date_is_now(server: Server) -> None:
    told = time.strptime(server.get("/healthz")["date"], "%a, %d %b %Y %H:%M:%S GMT")
    assert abs(time.mktime(told) - time.mktime(time.gmtime())) <= 3


def test_request_that_is_cut_short_is_not_answered(server: Server) -> None:
    assert codes(server, HEALTHZ + post(NOTHING)[:-1], "GET") == [200]


@pytest.mark.parametrize(
    ("line", "status"),
    [("X: y", 202), ("Prefer: wait=1", 202), ("Content-Length: 0", 202), ("Content-Length: 1", 400), ("Host: b", 400)],
)
def test_head_asked_again_with_another_line(server: Server, gate: Gate, line: str, status: int) -> None:
    """The same HEAD again is answered without parsing; what differs in the least is not the same."""
    path = server.submit("until_file", gate.path)
    server.wait_for(path, "running")
    with server.wire() as wire:
        for _ in range(3):
            assert wire.ask(request("HEAD", path)).status == 202
        assert wire.ask(request("HEAD", path, line)).status == status


@each("altered", ["{}", "{}?", "{}/", "{}0", "{}/result", "{}%20", "/{}", "{}\t", "{} "])
def test_head_asked_again_for_another_target(server: Server, altered: str) -> None:
    path = server.run("nothing")
    once = server.ask(request("HEAD", altered.format(path)))
    with server.wire() as wire:
        for _ in range(2):
            assert wire.ask(request("HEAD", path)).status == 200
        assert wire.ask(request("HEAD", altered.format(path))).status == once.status


def test_heads_of_different_jobs_are_told_apart(server: Server, gate: Gate) -> None:
    paths = [server.run("nothing"), server.submit("until_file", gate.path), server.run("fail"), "/jobs/" + "0" * 28]
    with server.wire() as wire:
        found = [wire.ask(request("HEAD", path)).status for path in paths * 3]
    assert found == [200, 202, 424, 404] * 3


PADS = ["", " ", "\t", " \t \t", "  "]


@each("before", PADS)
@each("behind", PADS)
def test_white_space_around_a_field_value_is_no_part_of_it(server: Server, before: str, behind: str) -> None:
    body = submission("nothing")
    key = f"ows-{PADS.index(before)}-{PADS.index(behind)}-{time.monotonic_ns()}"
    fields = {
        "Host": "test:80",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Content-Encoding": "identity",
        "Prefer": "return=minimal",
        "Idempotency-Key": key,
        "Connection": "keep-alive",
    }
    lines = [f"{name}:{before}{value}{behind}" for name, value in fields.items()]
    sent = "\r\n".join(["POST /jobs HTTP/1.1", *lines, "", ""]).encode() + body
    with server.wire() as wire:
        first, second = wire.ask(sent), wire.ask(sent)
        assert (first.status, second.status) in ((202, 202), (202, 200))
        assert first["location"] == second["location"]
        assert (first.body, "connection" in first.headers) == (b"", False)
        expected = f"GET /jobs/{key} HTTP/1.1\r\nHost:{before}test{behind}\r\nConnection:{before}close{behind}\r\n\r\n"
        answer = wire.ask(expected.encode())
        assert answer["connection"] == "close"
        wire.read_end()


@pytest.mark.parametrize(("before", "behind"), [("\t", "\t "), ("", "\t")])
def test_white_space_around_what_is_expected(server: Server, before: str, behind: str) -> None:
    body = submission("nothing")
    lines = ("Content-Type: application/json", f"Expect:{before}100-continue{behind}")
    with server.wire() as wire:
        head, _, _ = request("POST", "/jobs", *lines, body=body).partition(body)
        wire.send(head)
        assert wire.read().status == 100
        wire.send(body)
        assert wire.read().status == 202


def test_a_path_is_the_same_however_it_is_escaped(server: Server) -> None:
    key = f"escaped-{time.monotonic_ns()}"
    escaped = "".join(f"%{ord(letter):02x}" for letter in key)
    put = request("PUT", f"/%6Aobs/{escaped}", "Content-Type: application/json", body=submission("nothing"))
    location = server.ask(put)["location"]
    server.wait_for(location, "succeeded")
    for path in (f"/jobs/{key}", f"/job%73/{key}", f"/%6a%6F%62%73/{escaped}", location.replace("0", "%30")):
        with server.wire() as wire:
            # Twice: the second is a request that may be known.
            heads = [wire.ask(request("HEAD", path)) for _ in range(2)]
            assert [head.status for head in heads] == [200, 200], path
            assert wire.ask(request("GET", f"{path}/%72esult")).json is None
    assert server.ask(request("GET", "/jobs%3Fstate=failed")).status == 404
    assert server.ask(request("GET", f"/jobs/{key}%2Fresult")).status == 404
    assert server.ask(request("GET", "/jobs?state=%66ailed")).status == 200
    assert server.ask(request("GET", "/%68ealthz?%zz")).status == 200


def test_the_first_and_a_replayed_answer_say_where_the_job_is(server: Server) -> None:
    for task, status in (("nothing", 200), ("fail", 424)):
        sent = post(submission(task), f"Idempotency-Key: replayed-{task}-{time.monotonic_ns()}")
        location = server.ask(sent)["location"]
        wait = server.ask(request("HEAD", location, "Prefer: wait=10"))
        assert wait.status == status
        again = server.ask(sent)
        assert (again.status, again["idempotency-replayed"]) == (status, "true")
        assert again["location"] == again["content-location"] == location
