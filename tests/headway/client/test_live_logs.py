"""The log of a job on a live server, read and followed, also through a deploy."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from headway.client import Client
from tests.conftest import Start
from tests.end_to_end.process import Gate, Server
from tests.headway.cli.conftest import run
from tests.headway.client.both import Ask, both

TEXTS = ["page 1 ü", "\x1b[31mred\x1b[0m"]
TEXT = "page 1 ü\n\x1b[31mred\x1b[0m\n"


@both
def test_a_log_is_read_and_followed(server: Server, ask: Ask, gate: Gate) -> None:
    payload = {"texts": TEXTS, "path": gate.path, "more": ["the end"]}
    job = ask(server.port, lambda client: client.submit("log_texts", payload))
    threading.Timer(0.5, gate.open).start()
    parts = ask(server.port, lambda client: client.job(job.id).follow_log())
    assert "".join(parts) == f"{TEXT}the end\n"
    assert len(parts) > 1
    assert parts[-1].state in ("running", "succeeded")
    text = ask(server.port, lambda client: client.job(job.id).log())
    assert (text, text.start, text.end, text.state) == (f"{TEXT}the end\n", 0, 31, "succeeded")
    assert ask(server.port, lambda client: client.job(job.id).log(-8)) == "the end\n"
    assert ask(server.port, lambda client: client.job(job.id).log(31)) == ""
    assert "".join(ask(server.port, lambda client: client.job(job.id).follow_log(23))) == "the end\n"


@both
def test_a_log_of_nothing_is_empty(server: Server, ask: Ask) -> None:
    job = ask(server.port, lambda client: client.submit("nothing"))
    assert ask(server.port, lambda client: client.job(job.id).follow_log()) == []
    assert ask(server.port, lambda client: client.job(job.id).log()) == ""
    assert ask(server.port, lambda client: client.job(job.id).log(-5)) == ""


def test_bytes_that_a_server_leaves_out_are_told_by_the_same_line(start: Start) -> None:
    port = start(results__log_bytes=2048).port
    with Client(f"http://127.0.0.1:{port}") as client:
        job = client.submit("log_lines", {"count": 1000, "pause": 0})
        job.wait()
        whole = job.log()
        assert "".join(job.follow_log()) == whole
        texts = list(job.follow_log())
        assert [text.start for text in texts] == [0, *(text.end for text in texts[:-1])]
        assert "bytes left out ...]\n" in whole
        assert whole.startswith("line 0\n")
        assert whole.endswith("line 999\n")
        assert whole.end > len(whole)


@pytest.mark.long
def test_a_log_is_followed_through_a_deploy(start: Start, tmp_path: Path, gate: Gate) -> None:
    server = start(journal__path=str(tmp_path / "journal.db"), drain_timeout=0.1, drain_linger=0)
    with Client(f"http://127.0.0.1:{server.port}") as client:
        job = client.submit("log_texts", {"texts": TEXTS, "path": gate.path, "more": ["the end"]})
        found = job.follow_log()
        seen = str(next(found))
        server.deploy()
        gate.open()
        seen += "".join(found)
    # The interrupted attempt is made again, and logs the same again.
    assert seen.startswith(TEXT)
    assert seen.endswith(f"{TEXT}the end\n")


def test_the_command_line_ends_with_the_job(server: Server) -> None:
    job = server.run("log_and_fail", None).rpartition("/")[2]
    ran = run(server.port, "log", "-f", job)
    assert ran.code == 1
    assert ran.lines[0] == "attempt 1"
    assert run(server.port, "log", job).code == 0
