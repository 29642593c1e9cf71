"""``headway submit``, ``status``, ``wait``, ``result``, ``cancel``, ``retry`` and ``list`` on a live server."""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from headway.client import Client
from tests.conftest import Start
from tests.end_to_end.process import Gate, Server
from tests.headway.cli.conftest import Headway, run
from tests.headway.client.answered import ID, answer, problem
from tests.sim.scripted import Scripted


def submitted(headway: Headway, *arguments: object) -> str:
    """Submit a job and return its id."""
    ran = headway("submit", *arguments)
    assert (ran.code, ran.err) == (0, "")
    return ran.out.removesuffix("\n")


def failed(headway: Headway, detail: str = "no") -> str:
    """Submit a job that fails, and wait for its end."""
    job_id = submitted(headway, "fail", json.dumps({"message": detail}))
    assert headway("wait", job_id).code == 1
    return job_id


def nobody() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


# Submitting.


def test_submit_writes_the_id_alone(headway: Headway, server: Server) -> None:
    job_id = submitted(headway, "give", '{"rows": 3}')
    assert len(job_id) == 36
    assert headway("result", job_id).out == '{"rows":3}'
    (document,) = headway("submit", "give", 1, "--json").documents
    assert document == {"id": document["id"], "url": f"http://127.0.0.1:{server.port}/jobs/{document['id']}"}
    assert headway("result", document["url"]).out == "1"


def test_submit_waits_for_the_result(headway: Headway) -> None:
    assert headway("submit", "give", '"ü"', "--wait").out == '"\u00c3\u00bc"'
    (document,) = headway("submit", "give", '["ü"]', "--wait", "--json").documents
    del document["id"]
    expected = {"state": "succeeded", "attempt": 1, "media_type": "application/json", "result": ["ü"]}
    assert {**expected, **document} == expected
    ran = headway("submit", "fail", '{"message": "no"}', "--wait")
    assert (ran.code, ran.out) == (1, "")
    assert "failed in attempt 1 (error): RuntimeError: no" in ran.err
    ran = headway("submit", "fail", '{"message": "no"}', "--wait", "--json")
    assert (ran.code, ran.err) == (1, "")
    assert (ran.documents[0]["state"], ran.documents[0]["error"]) == ("failed", "RuntimeError: no")


def test_submit_waits_for_so_long(headway: Headway) -> None:
    ran = headway("submit", "sleep", '{"seconds": 9}', "--wait-timeout", 0.1)
    assert (ran.code, ran.out) == (124, "")
    (job_id,) = re.findall("headway: job ([0-9a-f]{36}) has not finished after 0.1 s, and goes on\n", ran.err)
    assert headway("cancel", job_id).code == 0


def test_a_payload_comes_from_standard_input(headway: Headway) -> None:
    assert headway("submit", "give", "-", "--wait", given=b'{"a": [1]}').out == '{"a":[1]}'
    assert headway("submit", "give", "--wait").out == "null"
    ran = headway("submit", "give", "-", given=b"{a}")
    assert ran.code == 2
    assert "standard input is not JSON" in ran.err


@pytest.mark.parametrize(
    ("name", "options", "media_type"),
    [
        ("photo.jpg", [], "image/jpeg"),
        ("photo.jpg", ["--content-type", "text/csv; charset=utf-8"], "text/csv; charset=utf-8"),
        ("photo", [], "application/octet-stream"),
        ("table.csv.gz", [], "application/octet-stream"),
        ("data.json", [], "application/json"),
    ],
)
def test_a_file_is_sent_as_it_is(
    headway: Headway, tmp_path: Path, name: str, options: list[str], media_type: str
) -> None:
    (tmp_path / name).write_bytes(b'  {"a": "\xc3\xbc"}\n')
    ran = headway("submit", "content", f"@{tmp_path / name}", *options, "--priority", 9, "--wait", "--json")
    (document,) = ran.documents
    assert document["media_type"] == media_type
    if media_type == "application/json":
        assert document["result"] == {"a": "ü"}
    else:
        assert base64.b64decode(document["base64"]) == b'  {"a": "\xc3\xbc"}\n'


def test_content_with_a_type_is_sent_as_it_is(headway: Headway) -> None:
    binary = headway("submit", "content", "-", "--content-type", "image/png", "--wait", given=b"\x00\xff\n")
    assert binary.out == "\x00\xff\n"
    assert headway("submit", "content", "a,b", "--content-type", "text/csv", "--wait").out == "a,b"


def test_options_reach_the_job(headway: Headway) -> None:
    later = submitted(headway, "give", 1, "--delay", 60, "--priority", 0)
    assert headway("status", later, "--json").documents[0]["state"] == "scheduled"
    headway("cancel", later)
    again = [submitted(headway, "give", 1, "--idempotency-key", "cli-1") for _ in range(2)]
    assert again[0] == again[1]
    ran = headway("submit", "stubborn_failure", 1, "--retries", 1, "--wait", "--json")
    assert ran.documents[0]["attempt"] == 2
    for option, reason in (("--timeout", "timeout"), ("--deadline", "deadline")):
        ran = headway("submit", "sleep", '{"seconds": 9}', option, 0.05, "--wait", "--json")
        assert ran.documents[0]["reason"] == reason


# Asking.


def test_status_shows_the_facts(headway: Headway, gate: Gate) -> None:
    running = submitted(headway, "report", json.dumps({"percent": 42, "path": gate.path}))
    while '"progress"' not in (ran := headway("status", running, "--json")).out:
        assert ran.code == 0
    (document,) = ran.documents
    assert (document["id"], document["state"], document["task"]) == (running, "running", "report")
    assert document["progress"] == 42
    assert document["started"].endswith("Z")
    shown = headway("status", running)
    assert shown.code == 0
    assert {"state       running", "progress    42"} <= set(shown.lines)
    gate.open()
    broken = failed(headway, "two\nlines\x1b[2J")
    ran = headway("status", broken, running)
    assert ran.code == 1
    assert "error       RuntimeError: two lines" in ran.lines
    (document,) = headway("status", broken, "--json").documents
    assert document["error"] == "RuntimeError: two\nlines\x1b[2J"


def test_wait_tells_each_end(headway: Headway, gate: Gate) -> None:
    slow = submitted(headway, "until_file", json.dumps(gate.path))
    good, bad = submitted(headway, "give", 1), submitted(headway, "fail", '{"message": "no"}')
    threading.Timer(0.3, gate.open).start()
    ran = headway("wait", slow, good, bad, good)
    assert ran.code == 1
    assert sorted(ran.lines[:2]) == sorted(
        [f"{good} succeeded", f"{bad} failed in attempt 1 (error): RuntimeError: no"]
    )
    assert ran.lines[2:] == [f"{slow} succeeded"]
    ran = headway("wait", good, bad, "--json")
    found = {document["id"]: document for document in ran.documents}
    assert found[good]["state"] == "succeeded"
    assert found[bad]["error"] == "RuntimeError: no"
    assert headway("wait", good).code == 0


def test_a_job_that_is_refused_keeps_no_other_from_being_waited_for() -> None:
    def script(_: bytes, __: int) -> bytes:
        refused = b" /jobs/order-1 " in server.seen[-1]
        return problem(403, "scope") if refused else answer(200, {}, "Job-State: succeeded")

    with Scripted(script) as server:
        ran = run(server.port, "wait", "order-1", ID)
    assert (ran.code, ran.out) == (5, f"{ID} succeeded\n")
    (line,) = ran.err.splitlines()
    assert line.startswith("headway: job order-1: the server refuses the request: 403 scope: ")


def test_wait_ends_after_its_timeout(headway: Headway, gate: Gate) -> None:
    slow, other = (submitted(headway, "until_file", json.dumps(gate.path)) for _ in range(2))
    ran = headway("wait", slow, "--timeout", 0.1)
    assert (ran.code, ran.out) == (124, "")
    assert ran.err == f"headway: job {slow} has not finished after 0.1 s, and goes on\n"
    good = submitted(headway, "give", 1)
    ran = headway("wait", good, slow, other, "--timeout", 0.3)
    assert (ran.code, ran.out) == (124, f"{good} succeeded\n")
    assert ran.err == "headway: 2 of 3 jobs have not finished after 0.3 s, and go on\n"
    assert headway("result", slow, "--timeout", 0).code == 124


def test_a_result_goes_to_a_file(headway: Headway, tmp_path: Path) -> None:
    job_id = submitted(headway, "octets", 6)
    ran = headway("result", job_id, "-o", tmp_path / "result")
    assert (ran.code, ran.out) == (0, "")
    assert (tmp_path / "result").read_bytes() == b"\x00\xff" * 3
    assert headway("result", job_id).out == "\x00\xff" * 3
    headway("result", job_id, "--json", "--output", tmp_path / "result.json")
    document = json.loads((tmp_path / "result.json").read_text())
    assert base64.b64decode(document["base64"]) == b"\x00\xff" * 3
    ran = headway("result", job_id, "-o", tmp_path / "missing" / "file")
    assert ran.code == 2
    assert "cannot be written: No such file or directory" in ran.err
    assert headway("result", failed(headway), "-o", tmp_path / "none").code == 1
    assert not (tmp_path / "none").exists()


# Changing.


def test_cancel_keeps_results_unless_told_to_forget(headway: Headway, gate: Gate) -> None:
    running, later = submitted(headway, "until_file", json.dumps(gate.path)), submitted(headway, "give", "--delay", 60)
    ran = headway("cancel", running, later)
    assert (ran.code, ran.lines) == (0, [f"{running} cancelled", f"{later} cancelled"])
    assert headway("cancel", running, "--json").documents == [{"id": running, "state": "cancelled"}]
    done = submitted(headway, "give", 1)
    assert headway("wait", done).code == 0
    ran = headway("cancel", done, later)
    assert (ran.code, ran.out) == (5, f"{later} cancelled\n")
    assert ran.err == f"headway: job {done} has succeeded already. --forget deletes its result\n"
    assert headway("result", done).out == "1"
    assert headway("cancel", done, "--forget").code == 0
    ran = headway("result", done)
    assert ran.code == 3
    assert "its result was deleted" in ran.err


def test_retry_resubmits_what_failed(headway: Headway) -> None:
    bad, good = failed(headway), submitted(headway, "give", 1)
    ran = headway("retry", good, bad)
    assert ran.code == 5
    assert ran.err.startswith(f"headway: job {good}: the server refuses the request: 409 not-failed")
    assert headway("wait", ran.lines[0]).code == 1
    (document,) = headway("retry", bad, "--json").documents
    assert document["previous"] == bad
    assert document["id"] not in (bad, ran.lines[0])


def test_list_is_newest_first(start: Start) -> None:
    port = start().port

    def headway(*arguments: object) -> tuple[int, list[str]]:
        ran = run(port, *arguments)
        return ran.code, ran.lines

    ids = [headway("submit", "give", number)[1][0] for number in range(3)]
    assert headway("wait", *ids)[0] == 0
    ids += headway("submit", "give", "--delay", 60)[1] + headway("submit", "fail", "{}", "--delay", 60)[1]
    newest = ids[::-1]
    assert headway("list", "-q") == (0, newest)
    assert headway("list", "--quiet", "--limit", 4) == (0, newest[:4])
    assert headway("list", "-q", "--state", "succeeded", "--limit", 2) == (0, newest[2:4])
    assert headway("list", "-q", "--state", "scheduled", "--state", "running") == (0, newest[:2])
    _, (head, *rows) = headway("list", "--limit", 1)
    assert head.split() == ["ID", "STATE", "SUBMITTED", "TASK"]
    assert [row.split()[:2] + row.split()[3:] for row in rows] == [[newest[0], "scheduled", "fail"]]
    documents = run(port, "list", "--json").documents
    assert headway("cancel", *newest[:2])[0] == 0
    assert [(document["id"], document["task"]) for document in documents][:2] == [(ids[4], "fail"), (ids[3], "give")]


def test_list_reads_all_pages(server: Server, headway: Headway) -> None:
    """A page looks at 1,000 jobs at most, so the one that failed is on a later one."""
    bad = failed(headway)
    with Client(f"http://127.0.0.1:{server.port}") as client:
        jobs = client.submit_many("nothing", [None] * 2500)
        client.batch(jobs[-1].handle.batch_id or "").wait()
    assert bad in headway("list", "-q", "--state", "failed", "--limit", 1000).lines
    assert len(set(headway("list", "-q", "--state", "succeeded", "--limit", 2400).lines)) == 2400


# Errors: one line, and a code of their own.


def test_nobody_is_there() -> None:
    port = nobody()
    for arguments in (("status", "1"), ("submit", "give"), ("wait", "1"), ("list",), ("tasks",), ("top", "--once")):
        ran = run(port, *arguments, "--patience", 0)
        assert (ran.code, ran.out) == (6, "")
        assert len(ran.err.splitlines()) == 1
        assert f"cannot reach http://127.0.0.1:{port}" in ran.err
        assert ran.err.endswith("Is a server there? Start one with headway serve, or check --url\n")
    ran = run(port, "wait", "1", "2", "--patience", 2.5)
    first, last = ran.err.splitlines()
    assert first.endswith(": trying again for 2.5 s")
    assert last.startswith("headway: no useful answer")


def test_a_server_that_answers_is_not_looked_for() -> None:
    with Scripted(lambda *_: BUSY) as server:
        ran = run(server.port, "status", "1", "--patience", 0)
    assert ran.code == 6
    assert ran.err.endswith("Try again later, or with a longer --patience\n")


def test_the_queue_is_full(one_worker: Server, gate: Gate) -> None:
    for _ in range(7):
        assert run(one_worker.port, "submit", "until_file", json.dumps(gate.path)).code == 0
    ran = run(one_worker.port, "submit", "give", "--patience", 0)
    assert ran.code == 6
    assert ran.err.endswith("Try again later, or with a longer --patience\n")
    gate.open()


class Foreign(BaseHTTPRequestHandler):
    """Answers every GET with JSON that is no document of Headway's."""

    def do_GET(self) -> None:
        content = b'{"status": "ok"}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Write nothing."""


def test_a_server_that_is_no_headway_is_told() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Foreign) as foreign:
        threading.Thread(target=foreign.serve_forever, daemon=True).start()
        for arguments in (("status", "1"), ("wait", "1"), ("list",), ("tasks",), ("tasks", "give"), ("top", "--once")):
            ran = run(foreign.server_address[1], *arguments)
            assert (ran.code, ran.out) == (6, "")
            (line,) = ran.err.splitlines()
            assert "is this a Headway?" in line
        foreign.shutdown()


def test_an_expired_job_is_told(start: Start) -> None:
    port = start(retention__jobs=0).port
    job_id = run(port, "submit", "give").lines[0]
    assert run(port, "wait", job_id).code == 3
    assert run(port, "status", job_id).code == 3
    for command in ("result", "retry"):
        ran = run(port, command, job_id)
        assert (ran.code, len(ran.err.splitlines())) == (3, 1)


def test_of_several_jobs_the_lowest_code_counts(headway: Headway, gate: Gate) -> None:
    slow, good, bad = (
        submitted(headway, "until_file", json.dumps(gate.path)),
        submitted(headway, "give"),
        failed(headway),
    )
    gone, unknown = submitted(headway, "give", "--delay", 60), "0" * 36
    assert headway("cancel", gone).code == 0
    assert headway("wait", good).code == 0
    for ids, code in (((bad, gone, unknown), 1), ((unknown, good, gone), 3), ((good, unknown), 4)):
        assert headway("status", *ids).code == code
        assert headway("wait", *ids).code == code
        assert headway("wait", slow, *ids, "--timeout", 0.2).code == code
    assert headway("retry", unknown, good).code == 4
    gate.open()


BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After-Ms: 2500\r\nContent-Length: 0\r\n\r\n"
DONE = b"HTTP/1.1 200 OK\r\nJob-State: succeeded\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n7"


@pytest.mark.long
def test_commands_that_wait_have_more_patience() -> None:
    with Scripted(lambda *_: BUSY) as server:
        for arguments in (("submit", "give"), ("status", "1"), ("cancel", "1"), ("retry", "1"), ("list",), ("tasks",)):
            ran = run(server.port, *arguments)
            assert (ran.code, ran.out) == (6, "")
            assert "patience=2 allows no further try" in ran.err
        assert server.requests == 6
    for command in ("wait", "result"):
        with Scripted(lambda _, number: DONE if number else BUSY) as server:
            ran = run(server.port, command, "1")
            assert (ran.code, ran.out) == (0, "7" if command == "result" else "1 succeeded\n")
            assert "trying again for 30 s" in ran.err


@pytest.mark.parametrize("command", ["status", "wait", "result", "cancel", "retry"])
def test_an_unknown_id_is_told(headway: Headway, command: str) -> None:
    ran = headway(command, "0" * 36)
    assert (ran.code, ran.out) == (4, "")
    assert len(ran.err.splitlines()) == 1
    assert ran.err.endswith("Check the id and --url\n")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["submit", "no_such_task"], 5, "headway tasks lists the tasks of the server"),
        (["submit", "give", "--delay", "1e9"], 5, "422 invalid: delay: "),
        (["tasks", "no_such_task"], 5, "404 not-found"),
        (["submit"], 2, "Missing argument 'TASK': see headway submit --help"),
        (["submit", "give", "{a: 1}"], 2, "PAYLOAD is not JSON"),
        (["submit", "give", "NaN"], 2, "NaN is no number in JSON"),
        (["submit", "give", "1e999"], 2, "JSON"),
        (["submit", "give", "@no/such/file"], 2, "no/such/file: cannot be read: No such file or directory"),
        (["submit", "give", "--priority", "10"], 2, "'--priority'"),
        (["wait", "a b"], 2, "'a b' is neither an id nor a URL of jobs"),
        (["status", "a b"], 2, "'a b' is neither an id nor a URL of jobs"),
        (["wait"], 2, "Missing argument 'ID...'"),
        (["list", "--state", "gone"], 2, "'gone' is not one of"),
        (["list", "--url", "ftp://a"], 2, "is not allowed: expected http://host:port, https://host or http+unix://"),
        (["list", "--patience", "-1"], 2, "'--patience'"),
        (["wait", "1", "--timeout", "nan"], 2, "'nan' is not a finite number"),
        (["top", "--interval", "inf"], 2, "'--interval'"),
        (["submit", "give", "--delay", "inf"], 2, "'inf' is not a finite number"),
        (["submit", "give", "--idempotency-key", ""], 2, "idempotency_key='' is not allowed: expected 1 to 200 of"),
        (["submit", "give", "--idempotency-key", "a b"], 2, "idempotency_key='a b' is not allowed"),
        (["submit", "give", "--idempotency-key", "retry"], 2, "expected another name than that of a route"),
        (["submit", "give", "1", "--content-type", "a/\u00e9"], 2, "media_type='a/\u00e9' is not allowed"),
        (["submit", "give", "1", "--content-type", "a/b\r\nX: 1"], 2, "media_type='a/b\\r\\nX: 1' is not allowed"),
        (["submit", "give", "1", "--content-type", ""], 2, "media_type='' is not allowed"),
        (["submit", "give", r'"\ud800"'], 2, "the submission has '\\ud800', which is no character"),
        (["submit", "give", '"\udcff"'], 2, "PAYLOAD is not JSON"),
        (["submit", "\udcff"], 2, "the submission has '\\udcff', which is no character"),
        *(
            ([*command, "a\udcff"], 2, "'a\\udcff' is not allowed: it is no text in UTF-8")
            for command in (["tasks"], ["list", "--tag"], ["events", "--tag"], ["cancel", "--dry-run", "--task"])
        ),
        (["submit", "give", "[" * 100_000], 2, "PAYLOAD is nested too deeply for JSON"),
        (["no-such-command"], 2, "No such command 'no-such-command': see headway --help"),
        (["--no-such-option"], 2, "see headway --help"),
        (["journal", "no-such-command"], 2, "see headway journal --help"),
    ],
)
def test_an_error_is_one_line(headway: Headway, arguments: list[str], code: int, said: str) -> None:
    ran = headway(*arguments)
    assert (ran.code, ran.out) == (code, "")
    (line,) = ran.err.splitlines()
    assert line.startswith("headway: ")
    assert said in line


def test_the_settings_name_the_server(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, headway: Headway
) -> None:
    monkeypatch.chdir(tmp_path)
    job_id = submitted(headway, "give", 1)
    assert run(None, "status", job_id, "--url", f"127.0.0.1:{server.port}").code == 0
    Path("headway.yaml").write_text(f"server: {{host: 0.0.0.0, port: {server.port}}}\n")
    assert run(None, "status", job_id).code == 0
    Path("headway.yaml").write_text("server: {port: 1}\n")
    assert "cannot reach http://127.0.0.1:1: " in run(None, "status", job_id, "--patience", 0).err
    assert headway("status", job_id).code == 0
    monkeypatch.setenv("HEADWAY_SERVER__PORT", str(server.port))
    assert run(None, "status", job_id).code == 0


@pytest.mark.parametrize("command", ["list", "wait", "submit"])
@pytest.mark.parametrize("token", ["\u00e9", "a\nb"])
def test_a_token_that_cannot_be_sent_is_told(
    headway: Headway, command: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWAY_TOKEN", token)
    ran = headway(command, *(["a"] if command != "list" else []))
    told = "headway: HEADWAY_TOKEN is not allowed: expected ASCII characters in one line, without spaces around them\n"
    assert (ran.code, ran.out, ran.err) == (2, "", told)


@pytest.mark.parametrize("fault", ["server: {port: 1", "server: {prot: 1}", "port: 1", "[]"])
def test_settings_with_a_fault_name_no_server(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, headway: Headway
) -> None:
    monkeypatch.chdir(tmp_path)
    # Of another program, perhaps.
    Path("config.yaml").write_text(fault)
    assert run(None, "list", "--patience", 0).code != 2
    monkeypatch.setenv("HEADWAY_SERVER__PORT", "1")
    assert "cannot reach http://127.0.0.1:1: " in run(None, "list", "--patience", 0).err
    monkeypatch.delenv("HEADWAY_SERVER__PORT")
    for file, named in (("headway.yaml", None), ("config.yaml", "config.yaml"), ("none.yaml", "none.yaml")):
        if named is None:
            Path(file).write_text(fault)
        else:
            monkeypatch.setenv("HEADWAY_CONFIG", named)
        ran = run(None, "list", "--patience", 0)
        (line,) = ran.err.splitlines()
        assert (ran.code, ran.out) == (2, "")
        assert line.startswith(f"headway: {file}: ")
        assert headway("list").code == 0


def test_a_variable_with_a_fault_names_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADWAY_SERVER__PORT", "x")
    for text in (None, "another: program"):
        if text is not None:
            Path("config.yaml").write_text(text)
        ran = run(None, "list", "--patience", 0)
        (line,) = ran.err.splitlines()
        assert (ran.code, ran.out) == (2, "")
        assert line.startswith("headway: HEADWAY_SERVER__PORT")


def test_a_server_below_a_path_is_asked_there(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = start(http__base_path="/headway").port
    monkeypatch.chdir(tmp_path)
    Path("headway.yaml").write_text(f"server: {{port: {port}}}\nhttp: {{base_path: /headway}}\n")
    job_id = run(None, "submit", "give", 1).lines[0]
    assert run(None, "result", job_id).out == "1"
    assert run(None, "list", "-q").lines == [job_id]
    assert run(None, "tasks", "give").code == 0
    assert run(None, "top", "--once", "--interval", 0.1).code == 0
