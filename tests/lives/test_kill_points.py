"""Kills at chosen points: inside a commit and a checkpoint of the writer, at its end, and at each step of a start.

A kill at a random moment meets these points too rarely. Each test copies the files as they are at the point, begins the
next life on the copy, and asks for all that was acknowledged by then.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from headway.core.journal.writer_link import WriterLink

from tests.lives.server import Lives, copy, linux, run
from tests.protocol.wire import post, request, submission

pytestmark = [pytest.mark.long, linux]
STOPPING = "tests.core.journal.stopping_writer"
CLIENTS = 6
# So large that the log is copied into the file after some dozens.
LARGE_BYTES = 150_000
# Point, how often it is passed before, bytes of a payload.
INSIDE = [
    *(("log-written", times, 100) for times in (1, 40)),
    *(("log-synced", times, 100) for times in (1, 25)),
    *(("marked", times, 100) for times in (1, 25)),
    ("log-written", 700, LARGE_BYTES),
    *(("file-written", times, LARGE_BYTES) for times in (1, 300)),
    *(("checkpoint-marked", times, LARGE_BYTES) for times in (1, 2)),
    ("mark-synced", 1, LARGE_BYTES),
    ("file-synced", 1, LARGE_BYTES),
]
# The same points at other passages.
MORE = [
    *(("log-written", times, 100) for times in (2, 17)),
    *(("log-synced", times, 100) for times in (2, 9)),
    *(("marked", times, 100) for times in (2, 9)),
    ("log-written", 90, LARGE_BYTES),
    ("file-written", 2, LARGE_BYTES),
]
AT_THE_END = [
    *(("file-written", times) for times in (1, 2, 3)),
    *((point, 1) for point in ("checkpoint-marked", "file-synced", "mark-synced")),
    *((point, 2) for point in ("checkpoint-marked", "mark-synced")),
]


class Said:
    """What clients were told: acknowledged, and seen to be over."""

    def __init__(self) -> None:
        self.taken: dict[str, int] = {}
        self.over: set[str] = set()
        self.keys: dict[str, str] = {}

    async def go_on(self, lives: Lives, size: int, first: int) -> None:
        """Submit, and look, one after the other, until the server says no more."""
        client = lives.client()
        for number in itertools.count(first, CLIENTS):
            key = f"k-{number}"
            body = submission("echo", [number, "x" * size])
            answer = await client.ask(post(body, f"Idempotency-Key: {key}"))
            assert answer.status == 202
            self.taken[answer["location"]] = number
            self.keys[answer["location"]] = key
            said = await client.ask(request("HEAD", answer["location"]))
            if said["job-state"] == "succeeded":
                self.over.add(answer["location"])

    async def check(self, lives: Lives, size: int) -> None:
        """Ask for all of it."""
        for path in self.over:
            assert (await lives.ask(request("HEAD", path)))["job-state"] == "succeeded"
        for path, number in self.taken.items():
            assert (await lives.wait_for(path, "succeeded", "failed", "expired"))["job-state"] == "succeeded"
            assert (await lives.ask(request("GET", f"{path}/result"))).json == [number, "x" * size]
            assert (await lives.ask(request("HEAD", f"/jobs/{self.keys[path]}")))["content-location"] == path
        # And others are taken.
        new = await lives.run("echo", "new")
        assert new not in self.taken
        assert (await lives.ask(request("HEAD", new))).status == 200


@contextmanager
def stopping_at(point: str, times: int, begin: Path) -> Iterator[None]:
    """Have writers stop at a point, that counts once ``begin`` is there."""
    chosen = {"STOP_AT": f"{point}:{times}", "STOP_FROM": str(begin)}
    with patch.object(WriterLink, "module", STOPPING), patch.dict(os.environ, chosen):
        yield


@pytest.mark.parametrize(
    ("point", "times", "size"), [*INSIDE, *(pytest.param(*other, marks=pytest.mark.long) for other in MORE)]
)
def test_a_kill_inside_a_commit_or_a_checkpoint(tmp_path: Path, point: str, times: int, size: int) -> None:
    async def test() -> None:
        said, lives = Said(), Lives(tmp_path)
        with stopping_at(point, times, tmp_path / "begin"):
            await lives.start(results={"max_bytes": 100_000})
            (tmp_path / "begin").touch()
            load = [asyncio.create_task(said.go_on(lives, size, first)) for first in range(CLIENTS)]
            stops = asyncio.create_task(lives.until_the_writer_stops())
            await asyncio.wait([stops, *load], return_when=asyncio.FIRST_COMPLETED)
            await stops
            for one in load:
                one.cancel()
            await lives.kill()
        assert said.taken or times < 3 or point == "log-written"
        await lives.start()
        await said.check(lives, size)
        await lives.end()

    run(test())


@pytest.mark.parametrize(("point", "times"), AT_THE_END)
def test_a_kill_at_the_end(tmp_path: Path, point: str, times: int) -> None:
    async def test() -> None:
        said, lives = Said(), Lives(tmp_path)
        with stopping_at(point, times, tmp_path / "begin"):
            await lives.start()
            for number in range(20):
                path = await lives.run("echo", [number, "x"])
                said.taken[path] = number
                said.over.add(path)
            waiting = await lives.submit("echo", 1, delay=1000)
            (tmp_path / "begin").touch()
            await lives.kill_at_the_end()
        await lives.start()
        for path in said.over:
            assert (await lives.ask(request("GET", f"{path}/result"))).json == [said.taken[path], "x"]
        assert (await lives.ask(request("HEAD", waiting)))["job-state"] == "scheduled"
        await lives.end()

    run(test())


class Snapshots:
    """Copies of a journal's files before and after each call that syncs, renames or cuts one, where they differ."""

    calls = ("fsync", "rename", "replace", "pwrite", "truncate", "ftruncate", "unlink")

    def __init__(self, path: Path, into: Path) -> None:
        self._path, self._into = path, into
        self.taken: list[Path] = []
        # Names and bytes of the files, of each copy.
        self._seen: list[tuple[tuple[str, bytes], ...]] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        with ExitStack() as stack:
            for name in self.calls:
                stack.enter_context(patch.object(os, name, self._around(getattr(os, name))))
            yield

    def _around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **named: Any) -> Any:
            self._take()
            try:
                return call(*arguments, **named)
            finally:
                self._take()

        return watched

    def _take(self) -> None:
        folder = self._into / f"{len(self._seen)}"
        copy(self._path, folder)
        files = tuple((file.name, file.read_bytes()) for file in sorted(folder.iterdir()))
        if files not in self._seen:
            self.taken.append(folder / self._path.name)
        self._seen.append(files)


@pytest.mark.parametrize("before", ["nothing", "end", "kill"])
def test_a_kill_at_each_step_of_a_start(tmp_path: Path, before: str) -> None:
    """From the first byte of a new journal to the mark, the attempts and the rows of one with jobs in it."""

    async def test() -> None:
        said, lives = Said(), Lives(tmp_path)
        waiting = ""
        if before != "nothing":
            await lives.start()
            for number in range(5):
                said.taken[await lives.run("echo", [number, "x"])] = number
            waiting = await lives.submit("echo", 1, delay=1000)
            await (lives.end() if before == "end" else lives.kill())
        (tmp_path / "steps").mkdir()
        snapshots = Snapshots(lives.path, tmp_path / "steps")
        with snapshots.watching():
            await lives.start(workers=5, queue={"size": 77})
        await lives.end()
        assert len(snapshots.taken) > 4
        for step, path in enumerate(snapshots.taken):
            lives.path = path
            await lives.start()
            for job, number in said.taken.items():
                assert (await lives.ask(request("GET", f"{job}/result"))).json == [number, "x"], step
            if waiting:
                assert (await lives.ask(request("HEAD", waiting)))["job-state"] == "scheduled", step
            await lives.run("echo", "new")
            await lives.end()
            shutil.rmtree(path.parent)

    run(test())
