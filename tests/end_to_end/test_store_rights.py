"""docs/cluster.md has the rights that a node needs at its store, and no node needs others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.process import ROOT, launch
from tests.end_to_end.test_engine_command import engine
from tests.protocol.wire import request, submission
from tests.valkey_servers import StoreServer, serving

PAGE = (ROOT / "docs/cluster.md").read_text()
JSON = "Content-Type: application/json"
PATCH = "Content-Type: application/merge-patch+json"


def rights() -> list[str]:
    """The rules of the command ACL SETUSER on the page, after the user and the password."""
    (command,) = re.findall(r"^    ACL SETUSER headway on >PASSWORD (.+(?:\n        .+)*)", PAGE, re.MULTILINE)
    return str(command).split()


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[StoreServer]:
    with serving(tmp_path / "store") as store:
        store.ask("ACL", "SETUSER", "headway", "reset", "on", ">secret", *rights())
        yield store


def test_a_node_works_with_the_rights_of_the_page(tmp_path: Path, limited: StoreServer) -> None:
    url = f"valkey://headway:secret@127.0.0.1:{limited.port}/0"
    with launch(tmp_path, {"engine": url}) as one, launch(tmp_path, {"engine": url}) as two:
        job = one.run("log_lines", {"count": 2, "pause": 0}, tags=["blue"])
        assert two.get(f"{job}/log").body == b"line 0\nline 1\n"
        failed = one.submit("fail", {"message": "why"}, retries=1, keep=100)
        two.wait_for(failed, "failed")
        body = b"[%b,%b]" % (submission("give", 6), submission("give", 7, delay=1000))
        batch = one.ask(request("POST", "/batches", JSON, "Idempotency-Key: k", body=body))["location"]
        assert two.ask(request("POST", "/batches", JSON, "Idempotency-Key: k", body=body))["location"] == batch
        waiting = one.submit("give", 1, delay=1000)
        two.ask(request("PATCH", waiting, PATCH, body=b'{"priority": 7, "delay": 500}'))
        two.ask(request("PATCH", "/tasks/give", PATCH, body=b'{"dispatch": "hold"}'))
        assert one.get("/jobs?tag=blue").json["jobs"][0]["state"] == "succeeded"
        assert [task["name"] for task in two.get("/tasks").json["tasks"]]
        two.delete(waiting)
        two.delete(batch)
        order = one.ask(request("POST", "/jobs/retry?state=failed", "Content-Length: 0"))
        two.wait_for(order["location"], "succeeded")
        one.get("/metrics")
        one.get("/stats")
    engine(tmp_path, url, "check")
    engine(tmp_path, url, "stats")
    engine(tmp_path, url, "export", "--whole")
    denied = [{name: str(value) for name, value in one.items()} for one in limited.ask("ACL", "LOG")]
    assert denied == []


def test_each_right_is_of_use() -> None:
    """Each command is in a script, in the code of a node, or one that a library sends."""
    code = "".join(
        path.read_text()
        for folder in ("core/link", "core/store", "core/store/lua", "core/nodes", "core/visit", "core/valkey")
        for path in (ROOT / folder).iterdir()
        if path.is_file()
    )
    by_library = {
        "client|setname",
        "client|setinfo",
        "multi",
        "exec",
        "scan",
        "dbsize",
        "pttl",
        "select",
        "eval",
        "script|load",
    }
    commands = {rule[1:] for rule in rights() if rule.startswith("+")}
    unused = [
        name
        for name in commands - by_library
        if not re.search(rf"""["']{name.partition("|")[0]}["']""", code, re.IGNORECASE)
    ]
    assert unused == []
