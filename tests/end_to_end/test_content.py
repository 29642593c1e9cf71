"""Content as the payload of a job, in a thread and in a worker process, and the memory that megabytes take."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.conftest import Start
from tests.end_to_end.process import Server
from tests.protocol.wire import request

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
MEGABYTE = 1_000_000
# The payload, and the message to the journal's writer that has it.
MOST = 2.2


def peak_bytes(server: Server) -> int:
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", text)[0]) * 1024


@pytest.mark.parametrize("task", ["content_in_thread", "content_in_process"])
@pytest.mark.parametrize("megabytes", [10, pytest.param(50, marks=pytest.mark.long)])
def test_a_body_is_kept_once_and_written_down_once(start: Start, tmp_path: Path, task: str, megabytes: int) -> None:
    server = start(tasks=["tests.end_to_end.tasks_of_content"], journal__path=str(tmp_path / "jobs"))

    def give(size_bytes: int) -> None:
        lines = ("Content-Type: image/png", "Prefer: wait=20")
        body = bytes(size_bytes) + bytes(range(256)) * 4
        answer = server.ask(request("POST", f"/tasks/{task}/jobs", *lines, body=body))
        result = server.get(answer["content-location"] + "/result")
        assert (result["content-type"], result.body) == ("image/png", body[-1000:])

    for _ in range(3):
        give(1000)
    before = peak_bytes(server)
    give(megabytes * MEGABYTE)
    assert peak_bytes(server) - before < MOST * megabytes * MEGABYTE


@pytest.mark.parametrize(
    ("setting", "most"), [("limits__unanswered_bytes", 7_000_000), ("queue__max_bytes", 8_000_000)]
)
def test_content_that_no_setting_lets_through_is_refused_for_good(start: Start, setting: str, most: int) -> None:
    server = start(tasks=["tests.end_to_end.tasks_of_content"], **{setting: 8_000_000})
    refused = server.ask(request("POST", "/tasks/content_in_thread/jobs", body=bytes(most + 1)))
    assert (refused.status, setting.replace("__", ".") in refused.json["detail"]) == (413, True)
    assert "retry-after" not in refused.headers
    assert server.ask(request("POST", "/tasks/content_in_thread/jobs", body=bytes(most))).status == 202


def test_json_for_a_task_is_bounded_by_the_server(start: Start) -> None:
    """Content is only kept, but JSON is scanned on the loop."""
    server = start(tasks=["tests.end_to_end.tasks_of_anything"], limits__body_bytes=1000)
    lines = ("Content-Type: application/json", "Prefer: wait=20")
    refused = server.ask(request("POST", "/tasks/size_of/jobs", *lines, body=b"[%b1]" % (b"1," * 1000)))
    assert (refused.status, "limits.body_bytes" in refused.json["detail"]) == (413, True)
    answer = server.ask(
        request("POST", "/tasks/size_of/jobs", "Content-Type: a/b", "Prefer: wait=20", body=bytes(2000))
    )
    assert answer["job-state"] == "succeeded"
