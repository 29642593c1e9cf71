"""The bench of Headway beside other queues: who takes part, what is kept on disk, and its table."""

from __future__ import annotations

import argparse
import ast
import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.process import Process, free_port, running
from bench.queues import __main__ as bench
from bench.queues import catalogue, headway_queue, interface, record, valkey
from bench.queues.catalogue import QUEUES, Entry
from bench.queues.one import Run

FOLDER = Path(bench.__file__).parent
NAMES = [entry.name for entry in QUEUES]


def adapter(name: str) -> ast.ClassDef:
    """The class of a queue. Its packages are not installed here."""
    tree = ast.parse((FOLDER / f"{name}_queue.py").read_text())
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Adapter")


def test_each_queue_has_a_file_and_each_file_takes_part() -> None:
    assert {path.name.removesuffix("_queue.py") for path in FOLDER.glob("*_queue.py")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_queue_can_do_what_it_says(name: str) -> None:
    """One with ``batches`` has the call for them, one without Valkey brings its own server."""
    said: dict[str, object] = {
        ast.unparse(node.targets[0]): node.value.value
        for node in adapter(name).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    }
    done = {node.name for node in adapter(name).body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert {"worker_argv", "enqueue", "is_over"} <= done
    assert said.get("batches", False) == ("enqueue_many" in done)
    assert said.get("uses_valkey", True) == ("server" not in done)
    entry = next(entry for entry in QUEUES if entry.name == name)
    assert entry.on_valkey == said.get("uses_valkey", True)
    # How its batches are made is told beside its figures.
    assert ("batches: " in entry.how) == said.get("batches", False)


def test_a_queue_without_its_runtime_is_left_out_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "BUNQUEUE_FOLDER", tmp_path)
    absent: dict[str, str] = {}
    assert [entry.name for entry in bench.choose(["bunqueue"], absent)] == ["bunqueue"]
    assert absent["bunqueue"].startswith("not run: ")
    assert f"bunqueue, {catalogue.BUN} is not installed" in absent["bunqueue"]
    assert "\n" not in absent["bunqueue"]


def test_the_runtime_is_told_with_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "BUNQUEUE_FOLDER", tmp_path)
    entry = Entry("bunqueue", [], npm=["bunqueue", "@oven/bun"])
    for package, version in (("bunqueue", "2.9.5"), ("@oven/bun", "1.4.5")):
        (tmp_path / package).mkdir(parents=True)
        (tmp_path / package / "package.json").write_text(f'{{"version": "{version}"}}')
    assert entry.missing == ""
    assert entry.version == "bunqueue 2.9.5, @oven/bun 1.4.5"


def test_without_valkey_those_with_a_server_of_their_own_remain() -> None:
    absent: dict[str, str] = {}
    bench.choose([], absent, store=str)
    without = {name for name, why in absent.items() if why.startswith("not run: there is no Valkey")}
    assert without.isdisjoint({"headway", "bunqueue"})
    assert all(entry.name in absent for entry in QUEUES if entry.on_valkey)


def turn(**rates: float) -> dict[str, Any]:
    """What one round found, with ``batched`` and ``durable_batched`` where they are given."""

    def burst(rate: float) -> dict[str, float]:
        return {"enqueued_per_s": rate + 1, "finished_per_s": rate, "told_per_s": rate - 1}

    found: dict[str, Any] = {"noop": burst(rates["noop"]), "nap": burst(90.0), "paced": {"p50_ms": 1.0, "p99_ms": 2.0}}
    found["durable"] = {"noop": burst(rates["durable"])}
    if "batched" in rates:
        found["batched"], found["durable"]["batched"] = burst(rates["batched"]), burst(rates["durable_batched"])
    return found | {"pss_bytes": 2**20, "bytes_per_job": 70.0, "workers": "1 process"}


def test_a_row_has_the_least_and_the_greatest_of_each_column() -> None:
    rounds = [
        turn(noop=500.0 + change, batched=3000.0 + change, durable=40.0 + change, durable_batched=800.0 + change)
        for change in (0.0, 9.0, 5.0)
    ]
    row = dict(zip(bench.HEAD, bench.row_of("rq", rounds), strict=True))
    assert row["finished/s"] == "505 (500-509)"
    assert row["in batches"] == "3,005 (3,000-3,009)"
    assert row["on disk"] == "45 (40-49)"
    assert row["on disk, in batches"] == "805 (800-809)"
    assert row["finished and told/s"] == "504 (499-508)"


def test_a_row_has_a_dash_where_a_client_has_no_call_for_many_jobs() -> None:
    row = dict(zip(bench.HEAD, bench.row_of("saq", [turn(noop=500.0, durable=40.0)]), strict=True))
    assert (row["in batches"], row["on disk, in batches"]) == ("-", "-")
    assert (row["finished/s"], row["on disk"]) == ("500", "40")


@pytest.mark.parametrize(("durable", "told"), [(True, ["yes", "always"]), (False, ["no", "everysec"])])
def test_on_disk_means_that_valkey_syncs_each_change(tmp_path: Path, durable: bool, told: list[str]) -> None:
    with running(valkey.process(free_port(), tmp_path, durable=durable)) as store:
        said = [valkey.ask(store.port, f"CONFIG GET {name}", b"\r\n").split() for name in ("appendonly", "appendfsync")]
    assert [words[-1] for words in said] == told


@pytest.mark.parametrize(("durable", "told"), [(True, b"disk"), (False, b"memory")])
def test_on_disk_means_that_headway_answers_after_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool, told: bytes
) -> None:
    monkeypatch.setenv(interface.PORT_VARIABLE, str(free_port()))
    monkeypatch.setenv(interface.FOLDER_VARIABLE, str(tmp_path) if durable else "")
    monkeypatch.setenv(record.FILE_VARIABLE, str(tmp_path / "notes"))
    answers: list[bytes] = []

    class Noted(headway_queue.Adapter):
        def post(self, path: bytes, body: bytes, more: bytes = b"") -> bytes:
            answers.append(super().post(path, body, more))
            return answers[-1]

    queue = Noted()
    assert queue.worker_env()["HEADWAY_JOURNAL__SYNC"] == "full"

    async def submit() -> list[bytes]:
        await queue.open()
        jobs = [await queue.enqueue("noop", 1.0), *await queue.enqueue_many("noop", [2.0, 3.0])]
        deadline = time.monotonic() + 20
        while not all([await queue.is_over(job) for job in jobs]):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        await queue.close()
        return jobs

    with running(Process("headway", queue.worker_argv(), interface.port(), env=queue.worker_env())):
        jobs = asyncio.run(submit())
    assert len(set(jobs)) == 3
    assert [sent for sent, _ in record.NOTE.iter_unpack((tmp_path / "notes").read_bytes())] == [1.0, 2.0, 3.0]
    assert [b"Job-Durability: " + told in answer for answer in answers] == [True, True]
    assert (tmp_path / "journal.db").exists() is durable


class Fake(interface.Queue[float]):
    """Runs a job as soon as it is enqueued, at so many jobs per second."""

    workers = "none"

    def __init__(self, notes: Path, rate: float) -> None:
        self._notes = notes
        self._rate = rate
        self.calls: list[int] = []

    async def enqueue_many(self, task: str, sent: Sequence[float]) -> Sequence[float]:
        self.calls.append(len(sent))
        await asyncio.sleep(len(sent) / self._rate)
        with self._notes.open("ab") as file:
            file.write(b"".join(record.NOTE.pack(one, time.monotonic()) for one in sent))
        return sent

    async def enqueue(self, task: str, sent: float) -> float:
        return (await self.enqueue_many(task, [sent]))[0]

    async def is_over(self, handle: float) -> bool:
        assert handle > 0
        return True


def fake(tmp_path: Path, rate: float) -> tuple[Fake, Run]:
    notes = tmp_path / "notes"
    notes.touch()
    queue = Fake(notes, rate)
    return queue, Run(queue, notes, [])


def test_a_batch_is_one_call_and_the_last_has_the_rest(tmp_path: Path) -> None:
    queue, run = fake(tmp_path, 100_000.0)
    found = asyncio.run(run.burst("noop", 2300, 20.0, batch=1000))
    assert queue.calls == [1000, 1000, 300]
    assert found["jobs"] == 2300


def test_a_slow_queue_gets_fewer_jobs_and_none_more_than_asked_for(tmp_path: Path) -> None:
    _, slow = fake(tmp_path, 500.0)
    assert 200 < asyncio.run(slow.jobs_within("noop", 20_000, 2.0)) <= 1000
    assert asyncio.run(slow.jobs_within("noop", 150, 2.0)) == 150
    assert asyncio.run(slow.jobs_within("noop", 20_000, 0.001)) == 100


def test_both_loads_run_with_their_own_settings() -> None:
    """The load on disk has its own process, and its figures their own place."""
    asked: list[tuple[str, ...]] = []

    def run(entry: Entry, options: argparse.Namespace, *more: str) -> dict[str, Any]:
        asked.append(more)
        return {"noop": {"finished_per_s": 40.0 if more else 500.0}}

    rounds: dict[str, list[dict[str, Any]]] = {}
    assert bench.take_turn(QUEUES[0], 0, argparse.Namespace(), rounds, {}, run=run) == 0
    assert asked == [(), ("--durable",)]
    (found,) = rounds["headway"]
    assert (found["noop"]["finished_per_s"], found["durable"]["noop"]["finished_per_s"]) == (500.0, 40.0)


def test_the_folder_is_asked_for_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(interface.FOLDER_VARIABLE, raising=False)
    assert interface.kept_in() is None
    monkeypatch.setenv(interface.FOLDER_VARIABLE, os.sep)
    assert interface.kept_in() == Path(os.sep)
