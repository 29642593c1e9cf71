"""What a server's samples say: for whom it worked, in which package, and as a picture."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import beside, samples
from bench.flame import svg
from bench.measure import ROOT, BenchError
from bench.samples import HTTP, REST, WORKERS

BELOW = ["__main__:<module>", "headway.protocol.process.loop:run_to_its_end"]
HEAD = ["headway.protocol.http.round:end", "headway.protocol.api.polls:_answer", "headway.core.board.rows:at"]
ATTEMPT = ["headway.core.work.workers:_work", "headway.core.local.active:claim"]
TIMER = ["headway.protocol.process.timers:_fire", "asyncio.futures:_set_result_unless_cancelled"]
CHORE = ["headway.core.local.engine:_chores"]


@pytest.fixture
def found(tmp_path: Path) -> samples.Samples:
    written = [([*BELOW, *HEAD], 5), ([*BELOW, *ATTEMPT], 2), ([*BELOW, *TIMER], 1), ([*BELOW, *CHORE], 1), (BELOW, 1)]
    path = tmp_path / "samples.json"
    path.write_text(json.dumps(written))
    return samples.read(path)


def test_a_sample_counts_for_the_callback_of_the_loop(found: samples.Samples) -> None:
    assert samples.parts(found) == {HTTP: 0.5, WORKERS: 0.3, REST: 0.2}


def test_a_sample_counts_for_the_package_that_it_was_in(found: samples.Samples) -> None:
    assert samples.packages(found) == {
        "core.board": 0.5,
        "core.local": 0.3,
        "protocol.process": 0.1,
        "the loop and tasks": 0.1,
    }


def test_a_flame_graph_has_a_box_for_each_function_and_one_for_the_kernel(found: samples.Samples) -> None:
    drawn = ElementTree.fromstring(svg("this & that", found, 30.0, 10.0))
    titles = [title.text or "" for title in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert titles[0] == "this & that: 40.0 µs a request"
    assert "core.board.rows:at 15.00 µs" in titles
    assert "kernel 10.00 µs" in titles


def test_a_server_samples_itself_between_two_signals(tmp_path: Path) -> None:
    (tmp_path / "headway" / "cli").mkdir(parents=True)
    (tmp_path / "headway" / "__init__.py").write_text("")
    (tmp_path / "headway" / "cli" / "__init__.py").write_text("")
    (tmp_path / "headway" / "cli" / "main.py").write_text(
        "import time\n\ndef busy(until):\n    while time.process_time() < until:\n        pass\n\n"
        "def main(arguments, prog_name):\n    import os, signal\n    os.kill(os.getpid(), signal.SIGUSR2)\n"
        "    busy(time.process_time() + 0.3)\n    os.kill(os.getpid(), signal.SIGUSR2)\n"
    )
    out = tmp_path / "samples.json"
    subprocess.run([sys.executable, str(ROOT / "bench/sampled.py"), str(out), "serve"], cwd=tmp_path, check=True)
    stacks = [(stack, count) for stack, count in json.loads(out.read_text()) if stack[-1] == "headway.cli.main:busy"]
    assert sum(count for _, count in stacks) > 10
    assert all(stack[0] == "__main__:<module>" for stack, _ in stacks)


def test_another_commit_is_checked_out() -> None:
    try:
        name = beside.name_of("HEAD")
    except BenchError:
        pytest.skip("no checkout of git")
    folder = beside.checkout(name)
    assert (folder / "headway" / "__init__.py").exists()
    assert folder == beside.checkout(name)
    with pytest.raises(BenchError, match="no-such-commit"):
        beside.name_of("no-such-commit")
