"""Tokens on the wire: also where heads are known, and after the file of tokens has changed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from headway.core.config import LimitsSection
from headway.protocol.access.clients import Clients
from headway.protocol.access.tokens import make, read, write
from headway.protocol.http.request import Request

from tests.conftest import Start
from tests.each import each
from tests.end_to_end.process import Gate, Server, launch
from tests.protocol.wire import PATIENCE_S, Answer, Wire, post, request, submission


class Guarded(NamedTuple):
    """A server with a token of all scopes, one of each other kind, and the lines that send them."""

    server: Server
    path: Path
    lines: dict[str, str]

    def revoke(self, name: str) -> None:
        """Take a token out of the file, and wait until the server has read that."""
        write(self.path, [token for token in read(self.path) if token.name != name])
        self.server.wait_for_line("tokens read again")


def bearer(secret: str) -> str:
    return f"Authorization: Bearer {secret}"


# Where an answer waits for the disk, a copy of the request is answered.
BOTH = pytest.mark.parametrize("guarded", ["memory", "journal"], indirect=True)
BOTH_OWN = pytest.mark.parametrize("own", ["memory", "journal"], indirect=True)


@contextmanager
def guard(folder: Path, engine: str) -> Iterator[Guarded]:
    kinds = {"all": ("submit", "read", "cancel", "admin", "metrics"), "give": ("submit:give",)}
    kinds |= {name: (name,) for name in ("view", "submit", "cancel")}
    made = {name: make(name, scopes) for name, scopes in kinds.items()}
    path = folder / "tokens.yaml"
    write(path, [token for _, token in made.values()])
    journal = {"journal__path": str(folder / "journal.db")} if engine == "journal" else {}
    with launch(folder, {"auth__tokens": str(path), **journal}) as server:
        yield Guarded(server, path, {name: bearer(secret) for name, (secret, _) in made.items()})


@pytest.fixture(scope="module", params=["memory"])
def guarded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Of many tests: none changes its tokens."""
    with guard(tmp_path_factory.mktemp("guarded"), request.param) as started:
        yield started


@pytest.fixture(params=["memory"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guarded]:
    """Of one test."""
    with guard(tmp_path, request.param) as started:
        yield started


def code(wire: Wire, *parts: str) -> int:
    method, target, *lines = parts
    return wire.ask(request(method, target, *lines)).status


def submitted(wire: Wire, line: str) -> str:
    answer = wire.ask(post(submission("give", "x"), line))
    assert answer.status == 202
    return answer["location"]


def until(wire: Wire, ask: bytes, status: int) -> Answer:
    begun = time.monotonic()
    while (answer := wire.ask(ask)).status != status:
        assert time.monotonic() < begun + PATIENCE_S
        time.sleep(0.01)
    return answer


def test_who_has_no_token_is_told_what_to_send(guarded: Guarded) -> None:
    with guarded.server.wire() as wire:
        answer = wire.ask(post(submission("give")))
        assert (answer.status, answer["www-authenticate"]) == (401, 'Bearer realm="headway"')
        assert "scope submit" in answer.json["detail"]
        answer = wire.ask(post(submission("give"), bearer("hw_none")))
        assert (answer.status, answer["www-authenticate"]) == (401, 'Bearer realm="headway", error="invalid_token"')
        answer = wire.ask(post(submission("give"), guarded.lines["view"]))
        assert answer["www-authenticate"] == 'Bearer realm="headway", error="insufficient_scope", scope="submit"'
        assert answer.status == 403


@each("target", ["/jobs", "/tasks/give/jobs", "/tasks/none/jobs"])
def test_who_may_not_submit_is_told_before_it_sends_the_content(guarded: Guarded, target: str) -> None:
    """And not whether there is such a task."""
    lines = ("Content-Type: application/json", "Content-Length: 100000", "Expect: 100-continue")
    for line, status in ((), 401), ((guarded.lines["view"],), 403):
        with guarded.server.wire() as wire:
            wire.send(request("POST", target, *lines, *line))
            assert wire.read().status == status


def test_who_may_not_submit_a_task_learns_nothing_of_its_content_and_sends_no_more_of_it(guarded: Guarded) -> None:
    """Content may be larger for this task than for others: examples/tasks.py."""
    lines = ("Content-Type: image/jpeg", "Content-Length: 2000000", "Expect: 100-continue")

    def told(target: str, *line: str) -> tuple[int, str]:
        with guarded.server.wire() as wire:
            wire.send(request("POST", target, *lines, *line))
            answer = wire.read()
            return answer.status, "" if answer.status == 100 else answer.json["detail"]

    for line in ((), (guarded.lines["view"],), (guarded.lines["give"],)):
        status, detail = told("/tasks/thumbnail/jobs", *line)
        assert (status, detail) == told("/tasks/none/jobs", *line)
        assert (status, "limits.body_bytes" in detail) == (413, True)
    assert told("/tasks/thumbnail/jobs", guarded.lines["submit"]) == (100, "")


@each("value", ["", "Bearer", "Bearer ", "Basic eDp5", "hw_x", "Bearer a b", "Bearer \xe9"])
def test_what_is_no_bearer_of_a_token_is_nobody(guarded: Guarded, value: str) -> None:
    with guarded.server.wire() as wire:
        assert code(wire, "GET", "/stats", f"Authorization: {value}") == 401


def test_two_tokens_in_a_request_are_refused(guarded: Guarded) -> None:
    with guarded.server.wire() as wire:
        assert code(wire, "GET", "/stats", guarded.lines["view"], guarded.lines["all"]) == 400


def test_the_scheme_has_any_case_and_any_number_of_blanks_after_it(guarded: Guarded) -> None:
    """RFC 9110, 11.4."""
    with guarded.server.wire() as wire:
        for scheme in ("bEARER", "Bearer  "):
            assert code(wire, "GET", "/stats", guarded.lines["view"].replace("Bearer", scheme)) == 200


def test_an_id_is_enough_and_a_key_is_not(guarded: Guarded) -> None:
    with guarded.server.wire() as wire:
        put = request(
            "PUT", "/jobs/order-1", "Content-Type: application/json", guarded.lines["all"], body=submission("give")
        )
        job = wire.ask(put)["location"]
        until(wire, request("HEAD", job), 200)
        assert code(wire, "GET", f"{job}/result") == 200
        assert code(wire, "DELETE", job) == 204
        for method, target in (("HEAD", "/jobs/order-1"), ("GET", "/jobs/order-1/result"), ("DELETE", "/jobs/order-1")):
            assert code(wire, method, target) == 401
        # A key that there is not is told apart from one that there is by nobody without a token.
        assert code(wire, "HEAD", "/jobs/order-2") == 401


def test_a_key_that_came_before_is_answered_to_who_may_submit_its_task(guarded: Guarded) -> None:
    """The answer has the id, which is a capability."""
    with guarded.server.wire() as wire:
        lines = ("Content-Type: application/json", "Idempotency-Key: order-7")
        body = submission("give", "guessed")
        first = wire.ask(request("POST", "/jobs", *lines, guarded.lines["all"], body=body))
        for method, target in (("POST", "/jobs"), ("PUT", "/jobs/order-7")):
            given = lines if method == "POST" else lines[:1]
            for name, status in (("", 401), ("view", 403), ("cancel", 403), ("give", 200), ("submit", 200)):
                some = [guarded.lines[name]] if name else []
                answer = wire.ask(request(method, target, *given, *some, body=body))
                # 202: it has not finished yet.
                assert answer.status == status or (answer.status, status) == (202, 200), name
                assert answer.headers.get("location") == (first["location"] if status == 200 else None)


@pytest.mark.parametrize("client", [(), ("X-Forwarded-For: 203.0.113.9",)], ids=["near", "far"])
def test_without_tokens_a_key_is_nothing_to_another_machine(start: Start, client: tuple[str, ...]) -> None:
    """Also where the same head is known from polls by an id."""
    server = start(auth="none")
    allowed = not client
    with server.wire() as wire:
        put = request("PUT", "/jobs/order-1", "Content-Type: application/json", *client, body=submission("give"))
        job = wire.ask(put)["location"]
        for _ in range(3):
            until(wire, request("HEAD", job, *client), 200)
        for method, rest in (("HEAD", ""), ("GET", ""), ("GET", "/result"), ("GET", "/log")):
            assert code(wire, method, f"{job}{rest}", *client) == 200
            answer = wire.ask(request(method, f"/jobs/order-1{rest}", *client))
            assert answer.status == (200 if allowed else 403)
            if not allowed and method == "GET":
                assert answer.json["detail"].startswith("without tokens a key is answered on the server's own machine")
        assert code(wire, "HEAD", "/jobs/order-2", *client) == (404 if allowed else 403)
        assert code(wire, "DELETE", "/jobs/order-1", *client) == (204 if allowed else 403)


@BOTH
def test_a_known_head_is_known_for_its_token_alone(guarded: Guarded) -> None:
    """The road of known heads looks at no token. It may only be taken by bytes that were looked at."""
    with guarded.server.wire() as wire:
        body = submission("give", 1)
        for _ in range(3):
            assert wire.ask(post(body, guarded.lines["all"])).status == 202
        wrong = guarded.lines["all"][:-1] + ("a" if guarded.lines["all"][-1] != "a" else "b")
        for _ in range(3):
            assert wire.ask(post(body, wrong)).status == 401
            assert wire.ask(post(body)).status == 401
        assert wire.ask(post(body, guarded.lines["all"])).status == 202


@BOTH
def test_a_token_for_a_task_is_not_for_another_behind_a_known_head(guarded: Guarded) -> None:
    with guarded.server.wire() as wire:
        for _ in range(3):
            assert wire.ask(post(submission("give", 1), guarded.lines["give"])).status == 202
        for _ in range(2):
            assert wire.ask(post(submission("nothing", 1), guarded.lines["give"])).status == 403
        batch = [{"task": "give"}, {"task": "nothing"}]
        body = str(batch).replace("'", '"').encode()
        lines = ("Content-Type: application/json", guarded.lines["give"])
        assert wire.ask(request("POST", "/batches", *lines, body=body)).status == 403
        assert wire.ask(request("POST", "/tasks/nothing/jobs", *lines, body=b"1")).status == 403
        assert wire.ask(request("POST", "/tasks/give/jobs", *lines, body=b"1")).status == 202


def test_a_token_for_a_task_is_not_for_another_that_was_submitted_before(guarded: Guarded) -> None:
    """By a job that failed, or by the key of another client."""
    mine, lines = guarded.lines["give"], ("Content-Type: application/json", guarded.lines["all"])
    with guarded.server.wire() as wire:
        failed = wire.ask(post(submission("fail"), guarded.lines["all"]))["location"]
        until(wire, request("HEAD", failed), 424)
        retry = request("POST", f"{failed}/retry", mine, body=b"")
        assert wire.ask(retry).status == 403
        assert wire.ask(retry.replace(mine.encode(), lines[1].encode())).status == 202
        keyed = request("POST", f"{failed}/retry", lines[1], "Idempotency-Key: again", body=b"")
        assert wire.ask(keyed).status == 202
        assert wire.ask(keyed.replace(lines[1].encode(), mine.encode())).status == 403
        for method, target, body in (
            ("PUT", "/jobs/order-3", submission("nothing")),
            ("POST", "/tasks/nothing/jobs", b"1"),
        ):
            key = ("Idempotency-Key: order-4",) if method == "POST" else ()
            assert wire.ask(request(method, target, *lines, *key, body=body)).status == 202
            assert wire.ask(request(method, target, lines[0], mine, *key, body=body)).status == 403


def test_a_token_for_a_task_reads_about_that_task_alone(guarded: Guarded) -> None:
    """Its counts are those of other clients, too. Whether there is another task is not told."""
    with guarded.server.wire() as wire:
        listed = wire.ask(request("GET", "/tasks", guarded.lines["give"])).json["tasks"]
        assert [task["name"] for task in listed] == ["give"]
        assert code(wire, "GET", "/tasks/give", guarded.lines["give"]) == 200
        for other in ("nothing", "none"):
            answer = wire.ask(request("GET", f"/tasks/{other}", guarded.lines["give"]))
            assert (answer.status, answer.json["type"]) == (403, "urn:headway:problem:scope")
            assert answer.json["detail"] == f"the token 'give' may read give, not {other!r}"
        for line in (guarded.lines["view"], guarded.lines["all"]):
            assert len(wire.ask(request("GET", "/tasks", line)).json["tasks"]) > 2
            assert code(wire, "GET", "/tasks/nothing", line) == 200


@pytest.mark.parametrize("target", ["/openapi.json", "/docs"])
def test_the_description_names_tasks_to_those_who_may_know_all(guarded: Guarded, target: str) -> None:
    """The rest get it without them. A page that was made for one is not for another."""
    with guarded.server.wire() as wire:
        for _ in range(2):
            for line in (guarded.lines["all"], guarded.lines["view"], guarded.lines["submit"]):
                assert b"kept_short" in wire.ask(request("GET", target, line)).body
            for line in ("X: y", guarded.lines["give"], guarded.lines["cancel"], bearer("hw_none")):
                answer = wire.ask(request("GET", target, line))
                assert answer.status == 200
                assert b"readJob" in answer.body
                assert b"kept_short" not in answer.body


def test_without_tokens_the_description_names_the_tasks(start: Start) -> None:
    server = start()
    for target in ("/openapi.json", "/docs"):
        assert b"kept_short" in server.get(target).body


@BOTH_OWN
def test_a_revoked_token_is_refused_within_a_moment_also_where_its_heads_are_known(own: Guarded) -> None:
    with own.server.wire() as wire, own.server.wire() as other:
        job = submitted(wire, own.lines["all"])
        polls = request("HEAD", job, own.lines["all"])
        until(wire, polls, 200)
        for _ in range(3):
            assert wire.ask(polls).status == 200
            submitted(other, own.lines["all"])
        own.revoke("all")
        assert wire.ask(polls).status == 401
        assert other.ask(post(submission("give", "x"), own.lines["all"])).status == 401
        # The id alone is as good as before.
        assert code(wire, "HEAD", job) == 200
        assert code(other, "GET", "/stats", own.lines["view"]) == 200


@BOTH
def test_a_poll_of_a_wrong_token_is_never_a_known_one(guarded: Guarded) -> None:
    with guarded.server.wire() as wire:
        job = submitted(wire, guarded.lines["all"])
        until(wire, request("HEAD", job), 200)
        for _ in range(3):
            assert code(wire, "HEAD", job, bearer("hw_none")) == 401


def test_a_stream_ends_when_its_token_may_be_revoked(own: Guarded) -> None:
    with own.server.wire() as wire:
        wire.send(request("GET", "/events", own.lines["all"]))
        assert wire.read_some().startswith(b"HTTP/1.1 200 ")
        own.revoke("all")
        assert wire.read_all().endswith(b"0\r\n\r\n")


def test_a_wait_ends_when_its_token_may_be_revoked(own: Guarded, gate: Gate) -> None:
    """So who has no token any more hears nothing of the end of the job."""
    with own.server.wire() as wire:
        job = wire.ask(post(submission("until_file", gate.path), own.lines["all"]))["location"]
        wire.send(request("GET", job, "Prefer: wait=30", own.lines["all"]))
        own.revoke("all")
        assert wire.read()["job-state"] in {"queued", "running"}


def test_without_any_token_left_nobody_is_let_in(own: Guarded) -> None:
    own.path.unlink()
    line = own.server.wait_for_line("tokens read again")
    assert '"level":"warning"' in line
    assert "there is none, so nobody is let in. headway token add makes one" in line
    with own.server.wire() as wire:
        assert code(wire, "GET", "/stats") == 401
        assert code(wire, "GET", "/stats", own.lines["all"]) == 401
        assert code(wire, "GET", "/healthz") == 200


def test_a_deploy_without_any_token_left_is_refused(own: Guarded) -> None:
    """Else the new program would let in everyone on this machine."""
    own.path.write_text("# Nobody.\n")
    own.server.wait_for_line("tokens read again")
    own.server.expected_errors.append("not deployed")
    assert "has no token any more" in own.server.deploy()
    with own.server.wire() as wire:
        assert code(wire, "GET", "/stats") == 401


def test_a_file_with_a_mistake_changes_nothing_and_is_told(own: Guarded) -> None:
    own.path.write_text("- name: x")
    own.server.wait_for_line("The tokens stay as they were")
    own.server.expected_errors.append("The tokens stay as they were")
    with own.server.wire() as wire:
        assert code(wire, "GET", "/stats", own.lines["view"]) == 200


def test_the_first_token_of_a_running_server_counts(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    server = start(auth__tokens=str(path))
    with server.wire() as wire:
        assert code(wire, "GET", "/jobs") == 200
        secret, token = make("first", ["read"])
        write(path, [token])
        server.wait_for_line("tokens read again")
        assert code(wire, "GET", "/jobs") == 401
        assert code(wire, "GET", "/jobs", bearer(secret)) == 200


def test_the_first_token_counts_for_a_client_that_asks_as_others_did_before(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    server = start(auth__tokens=str(path), auth__reads="token")
    job = server.run("nothing")
    with server.wire() as wire:
        until(wire, request("HEAD", job), 200)
    write(path, [make("first", ["read"])[1]])
    server.wait_for_line("tokens read again")
    with server.wire() as wire:
        assert code(wire, "HEAD", job) == 401


def test_rates_count_tokens_where_there_are_some(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    made = [make(name, ["view"]) for name in ("one", "two")]
    write(path, [token for _, token in made])
    server = start(auth__tokens=str(path), rates__polls=2, rates__polls_window=60)
    one, two = (bearer(secret) for secret, _ in made)
    with server.wire() as wire:
        assert [code(wire, "GET", "/stats", one) for _ in range(3)] == [200, 200, 429]
        assert [code(wire, "GET", "/stats", two) for _ in range(3)] == [200, 200, 429]
        # Who has none is counted by address, before it is told that it has none.
        assert [code(wire, "GET", "/stats", bearer(f"hw_{number}")) for number in range(3)] == [401, 401, 429]


def test_a_batch_counts_for_its_token_as_many_times_as_it_has_jobs(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "tokens.yaml"
    secret, token = make("shop", ["submit"])
    write(path, [token])
    server = start(auth__tokens=str(path), rates__submits=3, rates__submits_window=60)
    jobs = b"[%b]" % b",".join([submission("give")] * 3)
    ask = request("POST", "/batches", "Content-Type: application/json", bearer(secret), body=jobs)
    with server.wire() as wire:
        assert [wire.ask(ask).status for _ in range(2)] == [202, 429]


def test_without_tokens_lists_are_for_this_machine(start: Start) -> None:
    server = start()
    with server.wire() as wire:
        for target in ("/jobs", "/batches", "/events"):
            assert code(wire, "HEAD", target) == 200
            assert code(wire, "HEAD", target, "X-Forwarded-For: 203.0.113.9") == 403
            assert code(wire, "HEAD", target, "Forwarded: for=127.0.0.1") == 403
        assert code(wire, "POST", "/jobs/cancel?state=failed", "Content-Length: 0", "Forwarded: for=_x") == 403
        assert code(wire, "GET", "/stats", "X-Forwarded-For: 203.0.113.9") == 200


def test_who_comes_through_a_proxy_is_not_of_this_machine_whoever_the_proxy_names(start: Start) -> None:
    """Also through a trusted one: it may hide its client, and its own loopback is not ours."""
    server = start(http__trusted_proxies=["127.0.0.0/8"])
    with server.wire() as wire:
        for client in ("127.0.0.1", "203.0.113.9", "unknown", "for=unknown", "203.0.113.05", ""):
            for name in ("X-Forwarded-For", "Forwarded"):
                assert code(wire, "HEAD", "/jobs", f"{name}: {client}") == 403, f"{name}: {client}"


@pytest.mark.parametrize("peer", ["unknown", "-", "", "203.0.113.9", "unixx"])
def test_a_client_without_an_address_is_not_of_this_machine(peer: str) -> None:
    """As one that a PROXY header does not name."""
    clients = Clients((), "forwarded")
    assert not clients.is_near(of(peer))
    assert clients.is_near(of("unix"))
    assert clients.is_near(of("::1"))


@pytest.mark.parametrize("named", ["127.0.0.1", "::1", "192.0.2.7", "unknown"])
def test_a_client_that_a_proxy_for_tcp_names_is_not_of_this_machine(named: str) -> None:
    """The proxy may be elsewhere, and its own loopback is not ours."""
    asked = of(named)
    asked.peer_is_named = True
    assert not Clients(("0.0.0.0/0",), "forwarded").is_near(asked)


def of(peer: str) -> Request:
    """Return a request of a client."""
    made = Request(LimitsSection(), lambda request: request.limit, lambda _: None, lambda _: None)
    made.peer = peer
    return made


@pytest.mark.parametrize(
    ("has_tokens", "settings", "allowed"),
    [
        (False, {}, False),
        (False, {"auth": "none"}, False),
        (False, {"auth": "none", "http__hosts": ["jobs.example.com"]}, True),
        (True, {}, True),
        (True, {"http__hosts": ["other.example.com"]}, False),
    ],
)
def test_which_servers_answer_to_a_name(
    start: Start, tmp_path: Path, has_tokens: bool, settings: dict[str, object], allowed: bool
) -> None:
    path = tmp_path / "tokens.yaml"
    if has_tokens:
        write(path, [make("shop", ["view"])[1]])
    tokens: dict[str, object] = {"auth__tokens": str(path)} if "auth" not in settings else {}
    server = start(**{"http__hosts": [], **tokens, **settings})
    answer = server.ask(request("GET", "/healthz").replace(b"localhost", b"jobs.example.com"))
    assert answer.status == (200 if allowed else 403)


def test_a_page_that_gives_its_own_name_to_this_machine_is_refused(start: Start) -> None:
    server = start(http__hosts=["jobs.example.com"])
    for path in ("/jobs", "/jobs/x", "/healthz", "/", "/docs", "/nowhere"):
        with server.wire() as wire:
            ask = request("GET", path).replace(b"Host: localhost", b"Host: evil.example:8080")
            for _ in range(2):
                answer = wire.ask(ask)
                assert (answer.status, answer.json["type"]) == (403, "urn:headway:problem:host"), path
            assert wire.ask(ask.replace(b"evil.example", b"JOBS.example.com")).status != 403, path


def test_a_poll_under_another_name_is_never_a_known_one(start: Start) -> None:
    server = start(http__hosts=[])
    with server.wire() as wire:
        job = submitted(wire, "X: y")
        ask = request("HEAD", job).replace(b"localhost", b"evil.example")
        for _ in range(3):
            assert wire.ask(ask).status == 403
            assert wire.ask(post(submission("give")).replace(b"localhost", b"evil.example")).status == 403
