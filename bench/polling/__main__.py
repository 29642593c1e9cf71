"""When to ask: the same crowd and the same jobs under each policy, for real and on paper: ``python -m bench.polling``.

First each policy on a server of its own (``crowd``), two of them also on one as config.yaml comes, then a restart while
thousands wait (``restart``); the costs that were measured there go into a model (``model``), which is held against the
same runs and then asked about crowds that no machine here can hold (``foresight``). With --docs, the page
docs/polling.md gets what was found.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench import report
from bench.measure import ROOT, BenchError, allow_files, cores, machine
from bench.polling import charts, crowd, foresight, restart, starts, summary
from bench.polling.summary import POLICIES, Findings
from bench.process import end_cleanly

PAGE = ROOT / "docs" / "polling.md"


def main() -> int:
    """Measure, print, write; return the exit code."""
    options = _options()
    end_cleanly()
    findings, before, began = Findings(), machine("polling"), time.monotonic()
    try:
        cores(2)
        charts.check()
        allow_files(max(options.clients * crowd.JOBS, options.restart))
        _find(options, findings)
        _find_starts(options, findings)
    except BenchError as error:
        findings.errors.append(str(error))
    except KeyboardInterrupt:
        findings.errors.append("interrupted")
    for said in findings.errors:
        print(f"bench-polling: {said}", file=sys.stderr)
    if not (findings.measured or findings.starts):
        return 1
    how = before | {
        "took": f"{time.monotonic() - began:.0f} s",
    }
    return int(not _finish(findings, how, PAGE if options.docs else None))


def _options() -> argparse.Namespace:
    quick = os.environ.get("QUICK") == "1"
    parser = argparse.ArgumentParser(prog="python -m bench.polling", description=__doc__)
    parser.add_argument("--clients", type=int, default=1000, help="with three jobs each")
    parser.add_argument("--policies", nargs="+", default=POLICIES, choices=POLICIES, metavar="NAME")
    parser.add_argument("--warm-up", type=float, default=2.0 if quick else 35.0, help="seconds before the window")
    parser.add_argument("--seconds", type=float, default=5.0 if quick else 60.0, help="of the window")
    parser.add_argument(
        "--no-shipped", dest="shipped", action="store_false", help="leave out the server as config.yaml comes"
    )
    parser.add_argument("--restart", type=int, default=2000 if quick else 10_000, help="who wait then; 0 for nobody")
    parser.add_argument(
        "--no-starts", dest="starts", action="store_false", help="leave out the first seconds of a server"
    )
    parser.add_argument("--only-starts", action="store_true", help="and nothing else: two and a half minutes")
    parser.add_argument(
        "--most", type=int, default=1000 if quick else 10_000_000, help="the largest crowd on paper, or 0"
    )
    parser.add_argument("--port", type=int, default=0, help="of the server; 0 takes a free one")
    parser.add_argument("--docs", action="store_true", help=f"write what is found to {PAGE.relative_to(ROOT)}")
    parser.set_defaults(starts=not quick)
    options = parser.parse_args()
    if options.clients < 1 or options.seconds <= 0 or min(options.warm_up, options.restart, options.most) < 0:
        parser.error("clients and seconds are above 0, the others 0 or more")
    if not 0 <= options.port <= 65_535:
        parser.error(f"--port {options.port}: expected 0 to 65535")
    return options


def _find_starts(options: argparse.Namespace, findings: Findings) -> None:
    if not (options.starts or options.only_starts):
        return
    run = crowd.Run(clients=options.clients, warm_up=0.0, seconds=starts.LOOK_S, port=options.port)
    with tempfile.TemporaryDirectory() as name, _telling(findings):
        for one in starts.measure(run, Path(name)):
            findings.add_start(one)


def _find(options: argparse.Namespace, findings: Findings) -> None:
    if options.only_starts:
        return
    findings.settled = min(options.warm_up, options.seconds) >= summary.SETTLED_S
    run = crowd.Run(clients=options.clients, warm_up=options.warm_up, seconds=options.seconds, port=options.port)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for policy in options.policies:
            with _telling(findings):
                findings.add(crowd.measure(policy, run, folder))
        for policy in [name for name in ("1s", "when-told") if options.shipped and name in options.policies]:
            with _telling(findings):
                shipped = crowd.half_full(options.warm_up, options.seconds, options.port)
                findings.add_shipped(crowd.measure(policy, shipped, folder))
        if options.restart:
            with _telling(findings):
                findings.add_return(restart.measure(options.restart, folder, options.port))
    costs = findings.fit()
    if costs is None:
        return
    for measured in findings.measured:
        findings.add_modelled(foresight.same(measured.policy, run, costs))
    if findings.back:
        findings.add_modelled(foresight.same_restart(findings.back.clients, costs))
    for name, scenario in foresight.all_of(costs, options.most):
        findings.add_foreseen(foresight.find(name, scenario))


@contextlib.contextmanager
def _telling(findings: Findings) -> Iterator[None]:
    """Note why a part failed; the others are still of use."""
    try:
        yield
    except (BenchError, OSError) as error:
        findings.errors.append(str(error))


def _finish(findings: Findings, how: dict[str, str], page: Path | None) -> bool:
    """Print and write what was found; return whether it is as it must be."""
    verdicts, good = summary.verdicts(findings)
    text = summary.text(findings, verdicts, how)
    print(f"\n{text}")
    target = report.folder("polling")
    report.write(target, text, summary.data(findings, verdicts, how))
    if findings.measured:
        charts.draw(target, findings)
    print(f"written to {target}")
    if page is not None:
        summary.publish(page, text)
        charts.draw(ROOT / "docs" / "img", findings, ["png"])
        print(f"{page} has it")
    return good and not findings.errors


if __name__ == "__main__":
    sys.exit(main())
