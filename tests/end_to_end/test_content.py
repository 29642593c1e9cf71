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
