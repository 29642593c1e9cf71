"""What was found about asking, as tables and verdicts."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench import report
from bench.polling import calibrate
from bench.polling.crowd import Measured
from bench.polling.foresight import BURST, RESTARTED, SAMPLED, Finding
from bench.polling.restart import Return
from bench.polling.scenario import Costs
from bench.polling.starts import ALLOWED, LOOK_S, Start

POLICIES = ("1s", "when-told", "retry-after", "wait", "batch-told", "batch")
# Of the model, against what was measured: a share, or so many milliseconds where that is more than the share.
CLOSE = 0.15
CLOSE_MS = 5.0
# Of a sampled crowd, against the whole.
SAMPLED_MS = 100.0
# Of a window and of the time before it, in seconds: where one is shorter, chance decides.
SETTLED_S = 30.0
# Columns of a line of prose on the page.
WIDTH = 100
# The page has what was found between these.
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"


@dataclass(slots=True)
class Findings:
    """All that a run finds; filled in as it goes, so that what there is can be kept."""

    measured: list[Measured] = field(default_factory=list)
    # On a server as config.yaml comes.
    shipped: list[Measured] = field(default_factory=list)
    back: Return | None = None
    starts: list[Start] = field(default_factory=list)
    # The queue had settled when the window began, and it was long enough: what a QUICK run is not.
    settled: bool = True
    costs: Costs | None = None
    modelled: list[Finding] = field(default_factory=list)
    foreseen: list[Finding] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def add(self, one: Measured) -> None:
        """A policy was measured."""
        self.measured.append(one)
        self._say(one, one.policy)

    def add_shipped(self, one: Measured) -> None:
        """A policy was measured on a server as it comes."""
        self.shipped.append(one)
        self._say(one, f"{one.policy}, as it comes")

    def _say(self, one: Measured, name: str) -> None:
        p50, p99 = one.delay_ms
        print(
            f"{name:>12}: {one.polls_per_job:5.2f} polls per job, known after p50 {p50:.1f}, p99 {p99:.1f} ms, "
            f"{one.cpu_us_per_job:.0f} µs of CPU per job",
            flush=True,
        )

    def add_return(self, back: Return) -> None:
        """A restart was measured."""
        self.back = back
        print(f"     restart: {back.clients} clients came back within {back.seconds:.1f} s", flush=True)

    def add_start(self, one: Start) -> None:
        """The first seconds of a server were measured."""
        self.starts.append(one)
        print(f"      starts: {one.polls_per_job:.2f} polls per job after {one.name}, {one.jobs} jobs", flush=True)

    def add_modelled(self, one: Finding) -> None:
        """The model has run what was measured."""
        self.modelled.append(one)

    def add_foreseen(self, one: Finding) -> None:
        """The model has run what cannot be measured."""
        self.foreseen.append(one)
        text = f"{one.clients} clients, {one.name}, {one.policy}: {one.simulated_s:.0f} s in {one.took_s:.1f} s"
        print(f"    on paper: {text}", flush=True)

    def fit(self) -> Costs | None:
        """Return what requests and runs cost; None where too little was measured."""
        self.costs = calibrate.costs(self.measured)
        return self.costs

    def of(self, policy: str, shipped: bool = False) -> Measured | None:
        """Return what was measured of a policy."""
        return next((one for one in (self.shipped if shipped else self.measured) if one.policy == policy), None)


def verdicts(findings: Findings) -> tuple[list[str], bool]:
    """Return what must hold and whether it does, a line each, and whether all of it does."""
    found: list[tuple[bool | None, str]] = []
    for policy, most, p50, p99 in (
        ("when-told", 1.6, 150.0, None),
        ("retry-after", 2.0, None, None),
        ("wait", 1.1, None, 20.0),
        ("batch-told", 0.6, None, None),
        ("batch", 0.6, None, None),
    ):
        one = findings.of(policy)
        if one is None:
            continue
        found.append((one.polls_per_job <= most, f"{policy}: {one.polls_per_job:.2f} polls per job, at most {most}"))
        for name, limit, delay in zip(("p50", "p99"), (p50, p99), one.delay_ms, strict=True):
            if limit is not None:
                found.append((delay <= limit, f"{policy}: known after {name} {delay:.1f} ms, at most {limit:g}"))
    found += [(one.polls_per_job <= ALLOWED[one.name], _of_start(one)) for one in findings.starts]
    every, told = findings.of("1s", shipped=True), findings.of("when-told", shipped=True)
    if every and told:
        ratio = every.cpu_us_per_job / told.cpu_us_per_job
        text = f"when-told: {ratio:.1f} times less CPU of the server per job than 1s, as config.yaml comes, at least 3"
        found.append((ratio >= 3, text))
    if findings.back:
        text = f"restart: a peak of {findings.back.ratio:.2f} times the mean, below 2"
        found.append((findings.back.ratio < 2, text))
    found += _of_paper(findings)
    if not findings.settled:
        # All but the first seconds, which are looked at for as long as ever.
        found = [(good if text.startswith(tuple(ALLOWED)) else None, text) for good, text in found]
    words = {True: "PASS", False: "FAIL", None: "not judged, the sample is too small"}
    return [f"{words[good]}: {text}" for good, text in found], all(good is not False for good, _ in found)


def _of_start(one: Start) -> str:
    return f"{one.name}: {one.polls_per_job:.2f} polls per job in the first {LOOK_S:g} s, at most {ALLOWED[one.name]}"


def _of_paper(findings: Findings) -> list[tuple[bool | None, str]]:
    """Return what must hold of the model, and whether it does."""
    found: list[tuple[bool | None, str]] = []
    for crowd in findings.foreseen:
        if crowd.name == RESTARTED and crowd.back:
            text = f"restart on paper, {crowd.clients:,} held: a peak of {crowd.back.ratio:.2f} times the mean, below 2"
            found.append((crowd.back.ratio < 2, text))
    for rows, text in (
        (compared(findings), f"the model is within {CLOSE:.0%} (or {CLOSE_MS:g} ms)"),
        (sampled(findings), f"a sampled crowd is within {CLOSE:.0%} (or {SAMPLED_MS:g} ms) of the whole"),
    ):
        if rows:
            far = sum(not near for _, near in rows)
            found.append((not far, f"{text}: {far} figures are not"))
    return found


def compared(findings: Findings) -> list[tuple[list[str], bool]]:
    """Return rows of the model beside what was measured, and whether it is close."""
    rows: list[tuple[list[str], bool]] = []
    for paper in findings.modelled:
        real = findings.of(paper.policy)
        if findings.back and paper.back:
            rows += _restarts(findings.back, paper.back)
        elif real is not None:
            rows += _beside(paper.policy, real, paper, CLOSE_MS)
    return rows


def sampled(findings: Findings) -> list[tuple[list[str], bool]]:
    """Return rows of the crowd that was sampled beside the same as a whole, and whether it is close."""
    parts = [one for one in findings.foreseen if one.name == SAMPLED]
    wholes = {(one.policy, one.clients): one for one in findings.foreseen if one.name == BURST}
    rows: list[tuple[list[str], bool]] = []
    for part in parts:
        name = f"{part.clients:,} in a burst, one for {part.each}, {part.policy}"
        rows += _beside(name, wholes[part.policy, part.clients], part, SAMPLED_MS)
    return rows


def _beside(name: str, first: Measured | Finding, second: Finding, slack_ms: float) -> list[tuple[list[str], bool]]:
    """Return a row for each figure; delays may be ``slack_ms`` apart."""
    return [
        _row(f"{name}: polls per job", first.polls_per_job, second.polls_per_job, 0.0, ".2f"),
        _row(f"{name}: delay p50, ms", first.delay_ms[0], second.delay_ms[0], slack_ms, ".1f"),
        _row(f"{name}: delay p99, ms", first.delay_ms[1], second.delay_ms[1], slack_ms, ".1f"),
        _row(f"{name}: CPU, % of a core", 100 * first.utilisation, 100 * second.utilisation, 0.0, ".1f"),
    ]


def _restarts(real: Return, paper: Return) -> list[tuple[list[str], bool]]:
    return [
        _row("restart: all are back within, s", real.seconds, paper.seconds, 0.0, ".2f"),
        _row("restart: requests a second, mean", real.mean, paper.mean, 0.0, ".0f"),
        _row("restart: requests a second, peak", real.peak, paper.peak, 0.0, ".0f"),
    ]


def _row(name: str, first: float, second: float, slack: float, form: str) -> tuple[list[str], bool]:
    off = second / first - 1 if first else 0.0
    near = abs(off) <= CLOSE or abs(second - first) <= slack
    return [name, f"{first:{form}}", f"{second:{form}}", f"{off:+.0%}", "yes" if near else "no"], near


def text(findings: Findings, lines: list[str], how: Mapping[str, str]) -> str:
    """Return it all as Markdown."""
    parts = [
        _measured(findings) if findings.measured else "",
        "\n".join(f"- {line}" for line in [*lines, *findings.errors]),
    ]
    if findings.shipped:
        parts += ["On a server as config.yaml comes, its queue half full:", _table(findings.shipped)]
    if findings.back:
        back = findings.back
        parts.append(
            f"{back.clients:,} clients held by a server that was restarted came back within {back.seconds:.1f} s: "
            f"{back.peak:,.0f} requests a second at most, {back.mean:,.0f} in the mean."
        )
    if findings.modelled:
        head = ["the model beside the same runs", "measured", "modelled", "off by", "close"]
        parts.append(report.table(head, [row for row, _ in compared(findings)]))
    if findings.costs:
        costs = findings.costs
        parts.append(
            f"The model's costs, from these runs: {1e6 * costs.poll:.0f} µs of CPU for a poll, {1e6 * costs.held:.0f} "
            "µs for an answer that is held, "
            f"{1e6 * costs.post:.0f} µs for a request that submits, {1e6 * costs.job:.0f} µs to run a job."
        )
    if findings.foreseen:
        parts.append(_foreseen(findings))
    if sampled(findings):
        head = ["sampled, beside the whole", "whole", "sampled", "off by", "close"]
        parts.append(report.table(head, [row for row, _ in sampled(findings)]))
    parts.append(report.facts(how))
    return _filled("\n\n".join(part for part in parts if part))


def _filled(text: str) -> str:
    """Return ``text`` with all lines but those of tables broken at WIDTH."""
    return "\n".join(line if line.startswith("|") else _broken(line) for line in text.split("\n"))


def _broken(line: str) -> str:
    indent = "  " if line.startswith("- ") else ""
    return textwrap.fill(line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _measured(findings: Findings) -> str:
    busy = statistics.fmean(one.noise for one in findings.measured)
    return f"{_table(findings.measured)}\n\nMeanwhile others kept {busy:.2f} cores of this machine busy."


def _table(measured: Sequence[Measured]) -> str:
    head = ["policy", "polls per job", "delay p50, ms", "p99, ms", "CPU per job, µs", "1s to this", "jobs", "queue"]
    every = next((one.cpu_us_per_job for one in measured if one.policy == "1s"), None)
    rows = []
    for one in measured:
        ratio = f"{every / one.cpu_us_per_job:.1f}" if every else "-"
        delays = [f"{delay:,.1f}" for delay in one.delay_ms]
        spent = f"{one.cpu_us_per_job:,.0f}"
        rows.append(
            [one.policy, f"{one.polls_per_job:.2f}", *delays, spent, ratio, f"{one.jobs:,}", f"{one.queue:.0%}"]
        )
    return report.table(head, rows)


def _foreseen(findings: Findings) -> str:
    head = [
        "on paper",
        "clients",
        "policy",
        "polls per job",
        "delay p50, ms",
        "p99, ms",
        "CPU",
        "worst second",
        "s",
        "back in a second",
    ]
    rows = []
    for one in (one for one in findings.foreseen if one.name != SAMPLED):
        delays = [f"{delay:,.0f}" for delay in one.delay_ms]
        seconds = f"{one.simulated_s:,.0f}{'' if one.over else ' (cut)'}"
        polls = f"{one.polls_per_job:.2f}"
        cpu = [f"{one.utilisation:.0%}", f"{one.peak:.0%}"]
        back = f"{one.back_most:,.0f}" if one.back else "-"
        rows.append([one.name, f"{one.clients:,}", one.policy, polls, *delays, *cpu, seconds, back])
    return report.table(head, rows)


def data(findings: Findings, lines: list[str], how: Mapping[str, str]) -> dict[str, object]:
    """Return it all for JSON."""
    return {"how": dict(how), "verdicts": lines, **asdict(findings)}


def publish(page: Path, found: str) -> None:
    """Put what was found between the marks on ``page``."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n\n{found}\n\n{END}{after}", encoding="utf-8")
