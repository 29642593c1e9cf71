"""What is known needs no parser and gets the same answer; what differs in the least is not the same."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Sequence
from typing import Any

import pytest
from headway.core.config import Config, LimitsSection
from headway.core.ids import ID_LENGTH
from headway.core.recovering import Recovering
from headway.protocol.api.app import Api
from headway.protocol.http.connection import Connection
from headway.protocol.http.request import Request

from tests.conftest import Start
from tests.core.engines import double, engine_with, submit
from tests.end_to_end.process import Gate, Server, settles
from tests.protocol.wire import Answer, post, request, submission

JSON = "Content-Type: application/json"


def given(server: Server, path: str) -> object:
    server.wait_for(path, "succeeded")
    return server.get(path + "/result").json


@pytest.mark.parametrize("sizes", [(3, 3, 3), (1, 10, 100, 1000, 10_000, 1), (0, 200_000, 5)], ids=str)
def test_each_content_is_its_own(server: Server, sizes: tuple[int, ...]) -> None:
    with server.wire() as wire:
        for number, size in enumerate(sizes):
            answer = wire.ask(post(submission("give", [number, "x" * size])))
            assert answer.status == 202
            assert given(server, answer["location"]) == [number, "x" * size]


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: {}", JSON),
        ("content-length:{}", JSON),
        (JSON, "CONTENT-LENGTH:   {}"),
        (JSON, "Content-Length: 00{}", "X-Content-Length: 7"),
        (JSON, "X: Content-Length: 9", "Content-Length: {}", "Y: z"),
    ],
)
def test_wherever_the_length_stands(server: Server, lines: tuple[str, ...]) -> None:
    with server.wire() as wire:
        for text in ("a", "bcd", "e" * 120):
            body = submission("give", text)
            head = "\r\n".join(["POST /jobs HTTP/1.1", "Host: localhost", *lines, "", ""]).format(len(body))
            answer = wire.ask(head.encode() + body)
            assert answer.status == 202, answer
            assert given(server, answer["location"]) == text


GOOD = post(submission("nothing"))
BODY = submission("nothing")


def with_length(text: str, body: bytes = BODY) -> bytes:
    head, _, _ = GOOD.partition(b"\r\n\r\n")
    return head.replace(b"Content-Length: %d" % len(BODY), f"Content-Length: {text}".encode()) + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        (GOOD + GOOD, [202, 202]),
        (GOOD + request("GET", "/healthz"), [202, 200]),
        (GOOD.replace(b"/jobs", b"/nope"), [404]),
        (GOOD.replace(b"Host: localhost", b"Host: localhos\xff"), [400]),
        (GOOD.replace(b"\r\n\r\n", b"\r\nHost: b\r\n\r\n"), [400]),
        (GOOD.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"), [400]),
        (GOOD.replace(b"application/json", b"text/plain"), [415]),
        (with_length("+36"), [400]),
        (with_length(" 3 6"), [400]),
        (with_length("36, 36"), [400]),
        (with_length("\u0663\u0666"), [400]),
        (with_length("9" * 20), [400]),
        (with_length("9999999"), [413]),
        (with_length("0", b""), [400]),
        (post(b"x" * len(BODY)), [400]),
    ],
)
def test_what_differs_is_looked_at(server: Server, sent: bytes, statuses: list[int]) -> None:
    once = server.wire()
    with server.wire() as wire:
        for _ in range(3):
            assert wire.ask(GOOD).status == 202
        for each in (once, wire):
            each.send(sent)
            assert [each.read().status for _ in statuses] == statuses
    once.socket.close()


@pytest.mark.parametrize("prefers", ["return=minimal", "wait=10", "wait=10, return=minimal", "handling=strict"])
def test_what_a_repeated_submission_prefers_is_heeded_each_time(server: Server, prefers: str) -> None:
    with server.wire() as wire:
        told = []
        for number in range(4):
            answer = wire.ask(request("POST", "/jobs", JSON, f"Prefer: {prefers}", body=submission("give", number)))
            assert given(server, answer["content-location" if answer.status == 200 else "location"]) == number
            told.append((answer.status, answer.headers.keys(), answer.headers.get("preference-applied")))
    assert told[0][0] == (200 if "wait" in prefers else 202)
    assert told[1:] == told[:1] * 3


@pytest.mark.parametrize("prefers", ["wait=10", 'Wait = "10"', "wait=10, wait=20", "x; y, wait=10; z, WAIT=20"])
def test_a_repeated_poll_that_prefers_to_wait_waits_each_time(server: Server, prefers: str) -> None:
    """Of several preferences of one name the first counts (RFC 7240, 2)."""
    path = server.run("nothing")
    with server.wire() as wire:
        for _ in range(3):
            assert wire.ask(request("HEAD", path, f"Prefer: {prefers}"))["preference-applied"] == "wait=10"


def test_lines_of_many_preferences_take_little_memory() -> None:
    reader: Any = None
    asked = Request(LimitsSection(), reader, reader, reader)
    tracemalloc.start()
    for number in range(100):
        asked.headers = {b"prefer": b",".join(b"%x" % name for name in range(number, number + 3000))}
        assert asked.preference(b"wait") is None
    kept_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept_bytes < 2 << 20


def test_content_over_the_limit_is_refused_behind_a_known_head(start: Start) -> None:
    most = 1000
    with start(limits__body_bytes=most).wire() as wire:
        for size, status in ((1, 202), (1, 202), (most, 202), (most + 1, 413)):
            body = submission("give", "")
            assert wire.ask(post(body + b" " * max(size - len(body), 0))).status == status


def test_content_that_comes_later_or_in_pieces(server: Server) -> None:
    with server.wire() as wire:
        for cut in (0, 5, len(GOOD) - len(BODY), len(GOOD) - len(BODY) + 4, len(GOOD) - 1):
            assert wire.ask(GOOD).status == 202
            wire.send(GOOD[:cut])
            assert server.get("/healthz").status == 200
            wire.send(GOOD[cut:])
            assert wire.read().status == 202


def test_content_without_a_media_type_is_read_by_its_own_length(server: Server) -> None:
    some, none = (request("POST", "/tasks/note/jobs", body=body) for body in (b"1", b""))
    with server.wire() as wire:
        for sent, status in ((some, 415), (some, 415), (none, 422), (none, 422), (some, 415)):
            assert wire.ask(sent).status == status


def test_a_content_that_looks_like_a_request_is_a_content(server: Server) -> None:
    path = server.run("nothing")
    head = request("HEAD", path)
    with server.wire() as wire:
        for _ in range(2):
            assert wire.ask(head).status == 200
        wire.send(request("POST", "/jobs", JSON, f"Content-Length: {len(head)}"))
        assert server.get("/healthz").status == 200
        wire.send(head)
        assert wire.read().status == 400
        assert wire.ask(head).status == 200


def test_heads_in_a_row_are_told_apart(server: Server, gate: Gate) -> None:
    paths = [server.run("nothing"), server.submit("until_file", gate.path), server.run("fail")]
    server.wait_for(paths[1], "running")
    unknown = "/jobs/" + "0" * 28
    with server.wire() as wire:
        for row in (
            paths,
            paths,
            paths[::-1],
            paths * 3,
            [paths[0]],
            [paths[0], unknown, paths[1]],
            paths * 100,
            paths,
        ):
            wire.send(b"".join(request("HEAD", path) for path in row))
            codes = dict(zip([*paths, unknown], (200, 202, 424, 404), strict=True))
            assert [wire.read("HEAD").status for _ in row] == [codes[path] for path in row]


def test_a_row_with_another_request_in_it_is_looked_at(server: Server) -> None:
    path = server.run("nothing")
    head = request("HEAD", path)
    other = head.replace(b"HEAD", b"GET ").replace(b"GET  /", b"GET /").replace(b"Host: localhost", b"Host: localhost.")
    assert len(other) == len(head)
    with server.wire() as wire:
        for _ in range(2):
            wire.send(head + head)
            assert [wire.read("HEAD").status for _ in range(2)] == [200, 200]
        wire.send(head + other + head)
        assert wire.read("HEAD").status == 200
        assert wire.read("GET").json["state"] == "succeeded"
        assert wire.read("HEAD").status == 200


def test_a_poll_is_told_the_same_with_and_without_the_parser(one_worker: Server, gate: Gate) -> None:
    server = one_worker
    ended = [server.run("nothing"), server.run("fail")]
    retrying = server.submit("stubborn_failure", "x")
    server.wait_for(retrying, "retrying")
    running = server.submit("report", {"percent": 30, "path": gate.path})
    server.wait_for(running, "running")
    cancelled, *waiting = [server.submit("nothing"), server.submit("nothing"), server.submit("nothing", delay=1000)]
    server.delete(cancelled)
    paths = (*ended, retrying, running, cancelled, *waiting)
    settles(lambda: [server.head(path)["job-position"] for path in waiting], ["0", "1"])
    for path in paths:
        assert told_without_parser(server, path) == told_by_parser(server, path)
        assert told_first(server, path) == told_by_parser(server, path)
    # A client with several jobs asks for those together that are due together.
    together = told_together(server, paths)
    assert together == [told_by_parser(server, path) for path in paths]


def test_a_poll_of_a_running_job_without_progress(server: Server, gate: Gate) -> None:
    path = server.submit("until_file", gate.path)
    server.wait_for(path, "running")
    assert told_without_parser(server, path) == told_by_parser(server, path)


def told_by_parser(server: Server, path: str) -> dict[str, str]:
    head = request("HEAD", path)
    with server.wire() as wire:
        wire.send(head[:20])
        assert server.get("/healthz").status == 200
        wire.send(head[20:])
        return lasting(wire.read("HEAD"))


def told_without_parser(server: Server, path: str) -> dict[str, str]:
    with server.wire() as wire:
        for _ in range(3):
            answer = wire.ask(request("HEAD", path))
        return lasting(answer)


def told_first(server: Server, path: str) -> dict[str, str]:
    """What a client is told that asks as others have asked before, and has just connected."""
    told_without_parser(server, path)
    with server.wire() as wire:
        return lasting(wire.ask(request("HEAD", path)))


def told_together(server: Server, paths: Sequence[str]) -> list[dict[str, str]]:
    with server.wire() as wire:
        wire.ask(request("HEAD", paths[0]))
        wire.send(b"".join(request("HEAD", path) for path in paths))
        return [lasting(wire.read("HEAD")) for _ in paths]


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("other", ["/jobs/none", "/jobs/" + "0" * 36, "/healthz", "/jobs"])
def test_what_stands_among_known_polls_is_answered_in_its_turn(server: Server, other: str, number: int) -> None:
    job = server.run("nothing")
    paths = [job, job, job]
    paths[number] = other
    expected = [server.head(path).status for path in paths]
    with server.wire() as wire:
        wire.ask(request("HEAD", job))
        wire.send(b"".join(request("HEAD", path) for path in paths))
        assert [wire.read("HEAD").status for _ in paths] == expected
        assert wire.still_serves()


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("count", [1, 2, 20])
def test_polls_with_a_post_behind_them_are_answered_before_it(server: Server, known: bool, count: int) -> None:
    job = server.run("nothing")
    with server.wire() as wire:
        wire.ask(request("HEAD", job))
        if known:
            wire.ask(GOOD)
        wire.send(request("HEAD", job) * count + GOOD)
        assert [wire.read("HEAD").status for _ in range(count)] == [200] * count
        posted = wire.read()
        assert posted.status == 202
        assert given(server, posted["location"]) is None
        assert wire.still_serves()


@pytest.mark.parametrize("cut", [1, 20, 60, 150])
def test_known_polls_that_come_in_pieces_are_answered_once_each(server: Server, cut: int) -> None:
    job = server.run("nothing")
    with server.wire() as wire:
        wire.ask(request("HEAD", job))
        sent = request("HEAD", job) * 3
        wire.send(sent[:-cut])
        assert server.get("/healthz").status == 200
        wire.send(sent[-cut:])
        assert [wire.read("HEAD").status for _ in range(3)] == [200] * 3
        assert wire.still_serves()


def test_polls_that_are_answered_together_are_counted(start: Start) -> None:
    server = start()
    job = server.run("nothing")
    with server.wire() as wire:
        wire.ask(request("HEAD", job))
        before = polls(server)
        wire.send(request("HEAD", job) * 5)
        for _ in range(5):
            wire.read("HEAD")
    assert polls(server) == before + 5


def test_a_client_that_is_turned_away_gets_no_answer_to_a_poll_that_others_made_known(start: Start) -> None:
    server = start(limits__connections_per_address=2)
    job = server.run("nothing")
    with server.wire() as wire, server.wire() as other:
        assert wire.ask(request("HEAD", job)).status == other.ask(request("HEAD", job)).status == 200
        with server.wire() as third:
            third.send(request("HEAD", job))
            assert third.read_all().startswith(b"HTTP/1.1 429 ")


def polls(server: Server) -> float:
    return sum(count for name, count in server.metrics().items() if "HEAD /jobs/{id}" in str(name))


def lasting(answer: Answer) -> dict[str, str]:
    """The status and the header lines in their order, without what another moment changes."""
    changing = {"date", "retry-after", "retry-after-ms"}
    fields = {name: "" if name in changing else text for name, text in answer.headers.items()}
    return {"status": str(answer.status), "order": " ".join(fields)} | fields


# The lines that each sends with a GET by default, as its source or a look at its bytes says.
CLIENTS = {
    "curl": ["User-Agent: curl/7.88.1", "Accept: */*"],
    "requests": ["User-Agent: x", "Accept-Encoding: gzip, deflate", "Accept: */*", "Connection: keep-alive"],
    "aiohttp": ["Accept: */*", "Accept-Encoding: gzip, deflate", "User-Agent: x"],
    "httpx": ["Accept: */*", "Accept-Encoding: gzip, deflate, br, zstd", "Connection: keep-alive", "User-Agent: x"],
    "Go": ["User-Agent: Go-http-client/1.1", "Accept-Encoding: gzip"],
    "Node": ["Connection: keep-alive", "Accept: */*", "Accept-Language: *", "User-Agent: node", "Accept-Encoding: br"],
}


@pytest.mark.parametrize("client", CLIENTS)
def test_the_polls_of_usual_clients_need_no_parser_the_second_time(client: str) -> None:
    async def poll() -> bytes | None:
        async with engine_with(double) as engine:
            job = submit(engine, "double", 1).decode()
            api = Api(Config(), engine)
            connection = Connection(api.connections)
            loop = asyncio.get_running_loop()
            async with await loop.create_server(lambda: connection, "127.0.0.1", 0) as server:
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                writer.write(request("HEAD", f"/jobs/{job}", *CLIENTS[client]))
                assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).startswith(b"HTTP/1.1 20")
                known = connection.known_rest
                writer.close()
        return known

    assert asyncio.run(poll()) is not None


def test_a_path_as_long_as_a_poll_with_a_slash_is_no_poll(server: Server) -> None:
    """Its client is told so, and keeps its connection."""
    end = "/no-route"
    with server.wire() as wire:
        for _ in range(2):
            assert wire.ask(request("HEAD", f"/jobs/{'0' * (ID_LENGTH - len(end))}{end}")).status == 404


def test_known_polls_while_the_journal_is_read_are_told_to_come_back() -> None:
    async def poll() -> None:
        api = Api(Config(), Recovering(Config()))
        loop = asyncio.get_running_loop()
        async with await loop.create_server(lambda: Connection(api.connections), "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            for _ in range(3):
                writer.write(request("HEAD", "/jobs/" + "0" * 28))
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
                assert head.startswith(b"HTTP/1.1 503 ")
            writer.close()

    asyncio.run(poll())
