"""Batches: which row of the contract's table holds, for how long, and after what."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from headway.core.tasks.registry import Options

from tests.lives.server import Gates, Lives, run
from tests.protocol.wire import Answer, request, submission

pytestmark = pytest.mark.long

EITHER = pytest.mark.parametrize("journal", [True, False], ids=["journal", "memory"])


async def submit(lives: Lives, *bodies: bytes) -> tuple[str, list[str]]:
    """Submit a batch; return its path and those of its jobs."""
    items = b"[%b]" % b",".join(bodies)
    answer = await lives.ask(request("POST", "/batches", "Content-Type: application/json", body=items))
    assert answer.status == 202
    return answer["location"], [f"/jobs/{job_id}" for job_id in answer.json["jobs"]]


def counts(answer: Answer) -> dict[str, int]:
    """The counts that an answer bears."""
    return {name[6:]: int(value) for name, value in answer.headers.items() if name.startswith("batch-")}


async def told(lives: Lives, path: str) -> tuple[int, dict[str, int], dict[str, Any]]:
    """All that is said of a batch, in the head and in the document."""
    answer = await lives.ask(request("GET", path))
    return answer.status, counts(answer), answer.json


# What its jobs have become: the first row of the contract's table that holds.
ROWS = [
    (["succeeded", "succeeded", "succeeded"], 200),
    (["succeeded", "cancelled", "succeeded"], 410),
    (["failed", "cancelled", "succeeded"], 424),
    (["cancelled", "failed", "failed"], 424),
    (["failed", "cancelled", "pending"], 202),
    (["cancelled", "pending", "succeeded"], 202),
]


@pytest.mark.parametrize("restart", ["", "end", "kill"])
def test_the_first_row_that_holds_is_said(tmp_path: Path, restart: str) -> None:
    async def test() -> None:
        gates = Gates()
        lives = Lives(tmp_path, (gates.hold,), journal=bool(restart))
        await lives.start(workers=8)
        paths: list[str] = []
        for row, (become, _) in enumerate(ROWS):
            names = [f"{row}, {number}" for number in range(3)]
            path, jobs = await submit(lives, *(submission("hold", name, retries=0) for name in names))
            paths.append(path)
            for name, job, state in zip(names, jobs, become, strict=True):
                await lives.wait_for(job, "running")
                if state == "cancelled":
                    assert (await lives.ask(request("DELETE", job))).status == 202
                elif state != "pending":
                    gates.open(name, ValueError("no") if state == "failed" else name)
                    await lives.wait_for(job, state)
        if restart:
            await (lives.end() if restart == "end" else lives.kill())
            gates.forget()
            await lives.start(workers=8)
        for path, (become, code) in zip(paths, ROWS, strict=True):
            for method in ("HEAD", "GET"):
                answer = await lives.ask(request(method, path))
                assert answer.status == code, (become, answer.raw)
                said = {"pending": become.count("pending"), "failed": become.count("failed")}
                if "cancelled" in become:
                    said["cancelled"] = become.count("cancelled")
                assert counts(answer) == said, become
        await lives.end()

    run(test())


@EITHER
@pytest.mark.parametrize("last", ["succeeded", "failed"])
@pytest.mark.parametrize("restart", [False, True], ids=["", "restarted"])
def test_a_batch_is_kept_as_long_as_the_last_of_its_jobs(
    tmp_path: Path, journal: bool, last: str, restart: bool
) -> None:
    """Jobs of it that retention has given up count as what they were, until the last one goes too."""

    async def start(lives: Lives) -> None:
        await lives.start(workers=2, queue={"size": 10}, retention={"jobs": kept})

    async def again(lives: Lives, gates: Gates) -> None:
        if not restart:
            return
        if journal:
            await lives.kill()
            gates.forget()
            await start(lives)
        else:
            await lives.deploy(workers=2, queue={"size": 10}, retention={"jobs": kept})

    kept = 6

    async def test() -> None:
        gates = Gates()
        lives = Lives(tmp_path, (gates.hold,), journal)
        await start(lives)
        bodies = [submission("echo", 1), submission("fail", 2, retries=0), submission("hold", 3, retries=0)]
        path, jobs = await submit(lives, *bodies)
        await lives.wait_for(jobs[0], "succeeded")
        await lives.wait_for(jobs[1], "failed")
        await lives.wait_for(jobs[2], "running")
        # The first two go; the batch is that of the third.
        for number in range(kept + 3):
            await lives.run("echo", number)
            await lives.run("fail", number, retries=0)
        assert (await lives.ask(request("HEAD", path))).status == 202
        gates.open(3, 3 if last == "succeeded" else ValueError("no"))
        await lives.wait_for(jobs[2], last)
        for number in range(kept):
            if number in (0, kept - 1):
                await again(lives, gates)
            answer = await lives.ask(request("HEAD", path))
            assert (answer.status, answer["batch-pending"]) == (424, "0"), number
            # Those of its own outcome push it out.
            await lives.run("echo" if last == "succeeded" else "fail", number, retries=0)
        await again(lives, gates)
        answer = await lives.ask(request("HEAD", path))
        assert answer.status == 410
        assert counts(answer)["expired"] > 0
        await lives.end()

    run(test())


@EITHER
def test_a_batch_that_succeeded_is_200_until_the_last_of_it_is_not_kept(tmp_path: Path, journal: bool) -> None:
    async def test() -> None:
        # A journal does the same however many are kept.
        for kept, size in product((3,) if journal else (3, 8), (1, 2, 3)):
            lives = Lives(tmp_path / f"{kept}-{size}", journal=journal)
            (tmp_path / f"{kept}-{size}").mkdir()
            await lives.start(workers=1, queue={"size": 3}, retention={"jobs": kept})
            path, jobs = await submit(lives, *[submission("echo", 1)] * size)
            await lives.wait_for(jobs[-1], "succeeded")
            for number in range(kept):
                assert (await lives.ask(request("HEAD", path))).status == 200, number
                await lives.run("echo", number)
            assert (await lives.ask(request("HEAD", path))).status == 410
            await lives.end()

    run(test())


# One after the other, the last twice.
CHANGES: list[dict[str, Any]] = [
    {"queue": {"size": 30}},
    {"queue": {"size": 11}},
    {"workers": 3},
    {"retention": {"jobs": 50}},
    {"retention": {"jobs": 500}, "queue": {"size": 12}},
    {"retention": {"jobs": 40}, "queue": {"size": 30}, "workers": 7},
    {"retention": {"jobs": 40}, "queue": {"size": 30}, "workers": 7},
]


@EITHER
def test_batches_are_what_they_were_after_a_start_with_other_settings(tmp_path: Path, journal: bool) -> None:
    async def test() -> None:
        gates = Gates()
        before: dict[str, Any] = {"workers": 2, "queue": {"size": 10}, "retention": {"jobs": 40}}
        lives = Lives(tmp_path, (gates.hold, (gates.hold, Options(name="slow"))), journal)
        await lives.start(**before)
        kinds = [["echo"] * 3, ["echo", "fail"], ["echo"]]
        gone = [await submit(lives, *(submission(task, retries=0) for task in kind)) for kind in kinds]
        # The last of its jobs is still kept, and the others are not.
        long, (first, *_) = await submit(
            lives, *(submission(task, "long", retries=0) for task in ("hold", "echo", "fail"))
        )
        await lives.wait_for(first, "running")
        for number in range(45):
            await lives.run("echo", number)
            await lives.run("fail", number, retries=0)
        gates.open("long")
        await lives.wait_for(first, "succeeded")
        kept = [await submit(lives, *(submission(task, retries=0) for task in kind)) for kind in kinds]
        for _, jobs in kept:
            for job in jobs:
                await lives.wait_for(job, "succeeded", "failed")
        paths = [path for path, _ in gone + kept] + [long]
        said = {path: await told(lives, path) for path in paths}
        assert [status for status, *_ in said.values()][:6] == [410, 410, 410, 200, 424, 200]
        for changed in CHANGES:
            if journal:
                await lives.end()
                await lives.start(**(before | changed))
            else:
                await lives.deploy(**(before | changed))
            assert {path: await told(lives, path) for path in said} == said, changed
        await lives.end()

    run(test())
