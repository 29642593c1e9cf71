"""A server under a crowd, with faults, for hours: ``python -m bench.soak``.

Members of the crowd submit jobs of all kinds and follow each to its end (crowd). Meanwhile processes are killed, the
disk is filled, clients drip and the server is deployed (faults). In the end no acknowledged job may be lost or in a
wrong state, each error that a client saw has to be explained by a fault of that moment, and neither memory nor
descriptors nor threads may have grown (trend, summary). With ``--jobs`` there are no faults, but many jobs (many).
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from dataclasses import asdict

from bench import report
from bench.measure import BenchError, machine
from bench.process import end_cleanly
from bench.soak import many, summary
from bench.soak.crowd import Member
from bench.soak.faults import Injector
from bench.soak.sampler import Sampler
from bench.soak.site import ENGINES, Site, running_site
from bench.soak.summary import Findings

MEMBERS = 8
# Of them a job may have three, and retries, so there are more requests than this.
SUBMITS_PER_S = 30.0
# When the server is deployed, as parts of the run: soon, so that one long life follows, and at the end.
DEPLOYS = (0.02, 0.04, 0.97)
# Between two faults, at most and at least.
PAUSE_S, PAUSE_LEAST_S = 30.0, 1.0
LASTING_S = 6.0
SAMPLES = 2000


def main(arguments: list[str] | None = None) -> int:
    """Soak, print, write; return the exit code."""
    options = _options(arguments)
    end_cleanly()
    how = machine("soak", arguments)
    try:
        if options.jobs:
            if options.engine == "valkey":
                raise BenchError("--jobs takes --engine journal or memory: on Valkey, make bench-soak does the same")
            findings = many.soak(options.jobs, options.engine)
        else:
            findings = soak(options.engine, options.hours * 3600)
    except (AssertionError, BenchError, OSError) as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    lasted = findings.samples[-1].at if findings.samples else 0.0
    how["method"] = (
        f"engine {options.engine}; {lasted / 60:.1f} minutes, {findings.requests:,} requests; samples are of /proc and "
        "/metrics; slopes are of quiet times after a warm-up"
    )
    text = summary.text(findings, how)
    print(text)
    target = report.folder(f"soak-{options.engine}")
    report.write(target, text, {"how": how, "samples": [asdict(sample) for sample in findings.samples]})
    print(summary.draw(target, findings, how["method"].partition(";")[0] + f", {lasted / 60:.0f} minutes"))
    print(f"written to {target}")
    return 0 if summary.verdicts(findings)[1] else 1


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0, help="with faults; fractions are allowed")
    parser.add_argument("--engine", choices=ENGINES, default="journal")
    parser.add_argument("--jobs", type=int, default=0, help="so many no-op jobs instead, without faults")
    return parser.parse_args(arguments)


def soak(engine: str, seconds: float) -> Findings:
    """Run a crowd and inject faults for so long; return what was found."""
    with running_site(engine) as site:
        site.begin_threads()
        pause_s = min(PAUSE_S, max(PAUSE_LEAST_S, seconds / 30))
        injector = Injector(site, [part * seconds for part in DEPLOYS], min(LASTING_S, max(1.0, seconds / 30)))
        sampler = Sampler(site.server, max(0.2, seconds / SAMPLES), lambda: (injector.deploys, injector.present))
        members = [Member(site.server.port, MEMBERS / SUBMITS_PER_S) for _ in range(MEMBERS)]
        for thread in (*members, sampler):
            thread.start()
        end = sampler.begun + seconds
        while time.monotonic() + pause_s < end:
            time.sleep(pause_s)
            injector.inject()
        time.sleep(max(0.0, end - time.monotonic()))
        sampler.stop.set()
        sampler.join()
        findings = Findings(samples=sampler.samples, injected=injector.injected, begun=sampler.begun)
        findings.failed += injector.failed
        _gather(members, findings)
        _end(site, findings)
        return findings


def _gather(members: list[Member], findings: Findings) -> None:
    """Let all jobs come to their ends, and take over what the members have seen."""
    for member in members:
        member.stop.set()
    for member in members:
        member.join()
        findings.troubles += member.troubles
        findings.acknowledged += member.acknowledged
        findings.finished += member.finished
        findings.lost += member.lost
        findings.wrong += member.wrong
        findings.requests += member.requests
        findings.seen_again += member.seen_again


def _end(site: Site, findings: Findings) -> None:
    """End the server in order."""
    site.server.signal(signal.SIGTERM)
    code = site.server.wait()
    if code:
        findings.failed.append(f"the server ended with exit code {code}")
    findings.failed += [f"stderr: {line}" for line in site.server.stderr]


if __name__ == "__main__":
    sys.exit(main())
