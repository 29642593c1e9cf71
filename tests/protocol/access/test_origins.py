"""Pages of other origins: those of the setting may use the server, and others are told nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from headway.core.errors import ConfigError
from headway.protocol.access.origins import Origins
from headway.protocol.api.fields import SENT
from headway.protocol.api.routes import ROUTES

from tests.conftest import Start
from tests.each import each
from tests.end_to_end.process import Gate, Server, launch
from tests.protocol.wire import Answer, post, request, submission

APP, LOCAL = "https://app.example.com", "http://localhost:5173"
OURS = f"Origin: {APP}"
PREFLIGHT = ("Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: content-type,prefer,x-own")
CORS = "access-control-"


@pytest.fixture(scope="module")
def cors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"http__cors_origins": [APP, LOCAL], "drain_linger": 0, "rates__polls": 100_000, "jobs__backoff": 0.01}
    with launch(tmp_path_factory.mktemp("cors"), settings) as started:
        yield started


def fields(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith(CORS)}


def check_allowed(answer: Answer, origin: str = APP) -> None:
    """See that a browser shows the answer, and all of its fields, to a page of ``origin``."""
    assert answer["access-control-allow-origin"] == origin
    assert answer["access-control-expose-headers"] == ", ".join(SENT)
    assert "access-control-allow-credentials" not in answer.headers
    exposed = {name.lower() for name in SENT} | {"content-type", "content-length", "vary"}
    # A browser reads no Transfer-Encoding: it takes the chunks apart.
    assert {name for name in answer.headers if not name.startswith(CORS)} <= exposed | {"transfer-encoding"}


@each("path", [route.path for route in ROUTES])
@each("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_every_answer_of_every_route_is_for_the_page(cors: Server, method: str, path: str) -> None:
    for origin in (APP, LOCAL):
        with cors.wire() as wire:
            wire.send(request(method, path, f"Origin: {origin}", body=b"" if method in {"POST", "PUT"} else None))
            # A stream has no end.
            answer = Answer(*wire.read_head(), b"", b"")
        check_allowed(answer, origin)
        assert answer["vary"] == "Origin"


@each(
    "sent",
    [
        request("GET", "/nowhere", OURS),
        request("BREW", "/jobs", OURS),
        request("POST", "/jobs", OURS),
        request("POST", "/jobs", OURS, "Content-Length: 99999999"),
        request(
            "POST", "/jobs", OURS, "Content-Type: application/json", "Expect: 100-continue", "Content-Length: 9999999"
        ),
        request("GET", "/%", OURS),
        request("GET", "/healthz", OURS, "X: " + "x" * 20_000),
        request("POST", "/jobs", OURS, "Transfer-Encoding: chunked") + b"no chunk\r\n",
    ],
    ids=["404", "501", "411", "413", "413-expected", "400", "431", "400-chunk"],
)
def test_a_page_can_read_why_it_is_refused(cors: Server, sent: bytes) -> None:
    with cors.wire() as wire:
        wire.send(sent)
        answer = wire.read()
    assert answer.status >= 400
    if sent.startswith(b"BREW") or b"X: " in sent:
        # The parser stops before it has read, or kept, the Origin.
        assert answer["vary"] == "Origin"
    else:
        check_allowed(answer)


def test_jobs_from_a_page(cors: Server, gate: Gate) -> None:
    with cors.wire() as wire:
        for _ in range(3):
            answer = wire.ask(post(submission("give", {"a": 1}), OURS, "Prefer: wait=10"))
            check_allowed(answer)
            location = answer["content-location"]
            for _ in range(3):
                check_allowed(wire.ask(request("HEAD", location, OURS)))
            result = wire.ask(request("GET", f"{location}/result", OURS))
            check_allowed(result)
            check_allowed(wire.ask(request("GET", f"{location}/result", OURS, f"If-None-Match: {result['etag']}")))
            # The next client of a proxy's connection is another page, or none.
            assert fields(wire.ask(request("HEAD", location, "Origin: https://evil.example"))) == {}
            assert fields(wire.ask(request("HEAD", location))) == {}
            assert wire.ask(request("GET", f"{location}/result"))["vary"] == "Origin"
            assert fields(wire.ask(post(submission("give", 1)))) == {}


def test_an_answer_behind_a_known_head_says_that_it_depends_on_the_origin(start: Start) -> None:
    """Once, as every answer: with another origin it would be another one."""
    server = start(http__cors_origins=[APP])
    with server.wire() as wire:
        for _ in range(4):
            made = wire.ask(post(submission("give", 1)))
            polled = wire.ask(request("HEAD", made["location"]))
            for answer in (made, polled, wire.ask(request("GET", made["location"], OURS))):
                assert answer.raw.lower().count(b"\r\nvary: origin\r\n") == 1


def test_a_long_result_is_for_the_page(cors: Server) -> None:
    answer = cors.get(f"{cors.run('octets', 200_000)}/result", OURS)
    check_allowed(answer)
    assert len(answer.body) == 200_000


@each(
    "origin",
    [
        "https://evil.example",
        "null",
        "*",
        APP.upper(),
        f"{APP}:443",
        f"{APP}.evil.example",
        "http://app.example.com",
        "",
    ],
)
def test_other_origins_are_told_nothing(cors: Server, origin: str) -> None:
    for method in ("GET", "OPTIONS"):
        answer = cors.ask(request(method, "/stats", f"Origin: {origin}", *PREFLIGHT))
        assert fields(answer) == {}
        assert answer["vary"] == "Origin"


def test_two_origins_are_none(cors: Server) -> None:
    assert fields(cors.get("/stats", OURS, OURS)) == {}


def test_a_browser_asks_before(cors: Server) -> None:
    answer = cors.ask(request("OPTIONS", "/jobs/some-key", OURS, *PREFLIGHT))
    assert answer.status == 204
    check_allowed_to_ask(answer, "DELETE, GET, HEAD, OPTIONS, PATCH, PUT")
    star = cors.ask(request("OPTIONS", "*", OURS))
    check_allowed_to_ask(star, "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT")


def check_allowed_to_ask(answer: Answer, methods: str) -> None:
    assert answer["allow"] == answer["access-control-allow-methods"] == methods
    allowed = {name.strip().lower() for name in answer["access-control-allow-headers"].split(",")}
    assert {"*", "authorization", "content-type", "prefer", "idempotency-key", "if-none-match"} <= allowed
    assert answer["access-control-max-age"] == "7200"


def test_for_all_origins(start: Start) -> None:
    server = start(http__cors_origins=["*"])
    for lines in ((), (OURS,), ("Origin: null",)):
        answer = server.get("/stats", *lines)
        assert answer["access-control-allow-origin"] == "*"
        assert "vary" not in answer.headers
    check_allowed_to_ask(server.ask(request("OPTIONS", "/jobs", *PREFLIGHT)), "GET, HEAD, OPTIONS, POST")
    for fields_of_page in ([OURS], ["Origin: null", "Sec-Fetch-Site: cross-site"], ["Sec-Fetch-Site: cross-site"]):
        assert server.ask(post(submission("nothing"), *fields_of_page)).status == 202


def test_every_answer_is_for_all_origins_once(start: Start) -> None:
    """Also behind a known head, and without an Origin: a cache may give it to a page."""
    server = start(http__cors_origins=["*", APP])
    sent = [request("GET", "/nowhere"), request("GET", "/%"), request("BREW", "/jobs"), request("POST", "/jobs")]
    for route in ROUTES:
        sent += [request(method, route.path, body=b"" if method == "PUT" else None) for method in ("GET", "PUT")]
    for asked in sent:
        with server.wire() as wire:
            wire.send(asked)
            # A stream has no end.
            check_for_all(Answer(*wire.read_head(), b"", b""))
    with server.wire() as wire:
        for _ in range(4):
            made = wire.ask(post(submission("give", 1)))
            polls = [wire.ask(request("HEAD", made["location"], *lines)) for lines in ((), (), (OURS,))]
            for answer in (made, *polls):
                check_for_all(answer)


def check_for_all(answer: Answer) -> None:
    allowed = {"access-control-allow-origin": "*", "access-control-expose-headers": ", ".join(SENT)}
    assert fields(answer) == allowed
    assert "vary" not in answer.headers


def test_a_browser_that_asks_is_not_counted(start: Start) -> None:
    server = start(http__cors_origins=[APP], rates__polls=1, rates__polls_window=3600)
    for _ in range(5):
        answer = server.ask(request("OPTIONS", "/jobs", OURS, *PREFLIGHT))
        assert answer.status == 204
        assert "ratelimit" not in answer.headers
    check_allowed(server.get("/stats", OURS))
    refused = server.get("/stats", OURS)
    assert refused.status == 429
    check_allowed(refused)


def test_off_unless_named(server: Server) -> None:
    for method in ("GET", "OPTIONS"):
        answer = server.ask(request(method, "/stats", OURS, *PREFLIGHT))
        assert fields(answer) == {}
        assert "vary" not in answer.headers


@each("route", ROUTES, ids=lambda route: route.path)
def test_options_names_the_methods(server: Server, route: object) -> None:
    (found,) = [known for known in ROUTES if known is route]
    answer = server.ask(request("OPTIONS", found.path))
    assert answer.status == 204
    assert answer["allow"] == ", ".join(sorted(method.decode() for method in found.answers))


def test_options_of_the_server(server: Server) -> None:
    answer = server.ask(request("OPTIONS", "*"))
    assert (answer.status, answer["allow"]) == (204, "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT")
    assert server.ask(request("OPTIONS", "/nowhere")).status == 404
    assert server.ask(request("GET", "*")).status == 400


@each(
    "origin",
    [
        *("https://a.example/", "a.example", "https://a.example/app", "https://A.example", "https://a.example:443"),
        *("", "null", "http://a.example:80", "https://*.example", "https://a.example\r\nX: y"),
    ],
)
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ConfigError, match=r"^http\.cors_origins: .* is not an origin as browsers send it"):
        Origins((origin,))


@each("origin", [APP, LOCAL, "https://[::1]:8443", "http://a_b.example:8080", "app://local", "*"])
def test_an_origin(origin: str) -> None:
    Origins((APP, origin))


def test_a_wrong_origin_is_one_line_at_a_start(tmp_path_factory: pytest.TempPathFactory) -> None:
    started = Server(tmp_path_factory.mktemp("wrong"), {"server__port": 0, "http__cors_origins": ["app.example.com"]})
    try:
        assert started.wait() == 2
        assert len(started.stderr) == 1
        assert "http.cors_origins: 'app.example.com' is not an origin" in started.stderr[0]
    finally:
        started.kill()
