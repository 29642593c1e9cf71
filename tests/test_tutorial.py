"""The tutorial, followed as a reader does: files saved by their names, real servers, commands pasted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.end_to_end.process import Server, launch
from tests.test_docs import blocks, printed, transcript

pytestmark = pytest.mark.long

PAGE = (Path(__file__).parent.parent / "docs/tutorial.md").read_text()
FLASK, FASTAPI = PAGE.split("## The same with FastAPI\n")
# Frameworks have warnings of their own.
QUIET = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}


@pytest.fixture
def headway(tmp_path: Path) -> Iterator[Server]:
    """The server of the tutorial, beside the files of the tutorial."""
    with served(tmp_path, 0) as server:
        for script in blocks(PAGE, "python"):
            (tmp_path / script[2:].partition("\n")[0]).write_text(
                script.replace("localhost:8080", f"127.0.0.1:{server.port}")
            )
        yield server


@contextmanager
def served(folder: Path, port: int) -> Iterator[Server]:
    """Serve tasks.py with a journal, as the page does."""
    (tasks,) = [script for script in blocks(PAGE, "python") if script.startswith("# tasks.py\n")]
    (folder / "tasks.py").write_text(tasks)
    settings = {"server__port": port, "tasks": ["tasks"], "journal__path": "headway.db", "drain_linger": 0}
    with launch(folder, settings) as server:
        yield server


@contextmanager
def application(folder: Path, *command: str) -> Iterator[str]:
    """Run a web application, and return its address."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", *command, "--port", "0"],
        cwd=folder,
        env=QUIET,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if found := re.search(r"[Rr]unning on http://(127\.0\.0\.1:\d+)", line):
                break
        else:
            raise AssertionError("".join(said))
        yield found[1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


def compare(part: str, address: str, written: str, folder: Path) -> None:
    """Paste the commands of a part of the page, and compare the output with the page."""
    steps = transcript(part)
    assert len(steps) >= 4
    for (command, shown), said in zip(
        steps, printed([command.replace(written, address) for command, _ in steps], folder), strict=True
    ):
        assert progress_hidden(said) == progress_hidden(shown), command


def progress_hidden(text: str) -> str:
    return re.sub(r'"progress":\d+', '"progress":<n>', text)


def ask(url: str, content: object = None, method: str = "GET") -> tuple[int, str]:
    """Send a request and return code and content."""
    data = None if content is None else json.dumps(content).encode()
    request = Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_slow_endpoint_works(headway: Server, tmp_path: Path) -> None:
    with application(tmp_path, "flask", "--app", "slow", "run") as address:
        assert ask(f"http://{address}/reports", {"rows": 3}, "POST") == (200, '{"rows":3}\n')


def test_flask(headway: Server, tmp_path: Path) -> None:
    with application(tmp_path, "flask", "--app", "app", "run") as address:
        compare(FLASK, address, "localhost:5000", tmp_path)


def test_the_application_outlasts_the_server(headway: Server, tmp_path: Path) -> None:
    with application(tmp_path, "flask", "--app", "app", "run") as address:
        url = f"http://{address}/reports"
        report = json.loads(ask(url, {"rows": 5}, "POST")[1])["id"]
        headway.signal(signal.SIGTERM)
        assert headway.wait() == 0
        assert ask(url, {"rows": 6}, "POST")[0] == 503
        with served(tmp_path, headway.port) as again:
            again.wait_for(f"/jobs/{report}", "succeeded")
            assert ask(f"{url}/{report}") == (200, '{"rows":5}\n')


def test_a_key_of_the_browser_makes_one_report(headway: Server, tmp_path: Path) -> None:
    with application(tmp_path, "flask", "--app", "once", "run") as address:
        url = f"http://{address}/reports/mine"
        first, second = (ask(url, {"rows": 7}, "PUT") for _ in range(2))
        assert first[0] == 202
        assert first == second


def test_the_tests_pass(headway: Server, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-o", "addopts=", "test_tasks.py"]
    ended = subprocess.run(command, cwd=tmp_path, env=QUIET, capture_output=True, text=True)
    assert "2 passed" in ended.stdout, ended.stdout


def test_fastapi(headway: Server, tmp_path: Path) -> None:
    with application(tmp_path, "uvicorn", "main:app") as address:
        compare(FASTAPI, address, "localhost:8000", tmp_path)
        assert ask(f"http://{address}/reports", {"rows": "three"}, "POST")[0] == 422
        headway.signal(signal.SIGTERM)
        assert headway.wait() == 0
        assert ask(f"http://{address}/reports", {"rows": 3}, "POST") == (503, '{"detail":"too busy, try again"}')
