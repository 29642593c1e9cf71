"""Many no-op jobs through one server, as fast as it takes them: the soak of memory, without faults."""

from __future__ import annotations

import contextlib

from bench.memory import Submitter
from bench.soak.sampler import Sampler
from bench.soak.site import running_site
from bench.soak.summary import MIB, Findings

# Looks at the server, evenly over all jobs.
LOOKS = 400
# Finished jobs that are kept: the bound is reached in the warm-up.
KEPT = 100_000
# Jobs after which the slope is held to its bound of an hour. In the warm-up, half of them, each row is used fifty
# times, and minutes pass: there is little left to fill.
SETTLED = 100 * KEPT


def soak(jobs: int, engine: str) -> Findings:
    """Run so many jobs; return what was seen of the server."""
    findings = Findings()
    with (
        running_site(engine, {"retention__jobs": KEPT, "workers": 32}) as site,
        contextlib.closing(Submitter(site.server.port)) as submitter,
    ):
        sampler = Sampler(site.server, 0.0, lambda: (0, ""))
        findings.begun = sampler.begun
        step = max(1, jobs // LOOKS)
        for done in range(step, jobs + 1, step):
            submitter.submit(step)
            sample = sampler.sample()
            if done % (20 * step) == 0:
                print(f"{done:,} jobs: {sample.rss_bytes / MIB:.1f} MiB, {sample.at:.0f} s", flush=True)
        findings.samples = sampler.samples
        findings.requests = jobs + submitter.refused
        findings.is_settled = jobs >= SETTLED
    return findings
