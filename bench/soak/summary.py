"""What a soak has shown: verdicts, tables and charts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import report
from bench.soak.crowd import Trouble
from bench.soak.faults import Injected, unexplained
from bench.soak.sampler import Sample
from bench.soak.trend import CONFIDENCE, HOUR_S, Trend, trend

MIB = 1 << 20
# Each life of the server begins with a warm-up of this, or of half of the life if that is less. So long the crowd
# needs for as many jobs as the rows of a journal are: then each row was used once, and takes no more memory.
# Seam: tests have shorter lives.
WARM_UP_S = 1500.0
# Seam: the same.
WARM_UPS = 2
# Seam: the same. A life in which a slope can be held to its bound of an hour.
LONG_LIFE_S = WARM_UPS * WARM_UP_S
# After a fault, the server is not as it was at once.
SETTLED_S = 5.0
# Lines of each list in a report.
SHOWN = 20


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure that may not grow by more than ``bound`` an hour. ``by_life``: a deploy begins it anew.

    In a run that is not settled and has no long life it may not grow by more than ``slack`` in all: bounds are still
    being reached.
    """

    name: str
    bound: float
    slack: float
    by_life: bool
    of: Callable[[Sample], float | None]


MEASURES = (
    Measure("RSS of the server, MiB", 1.0, 8.0, True, lambda sample: sample.rss_bytes / MIB),
    Measure("descriptors", 1.0, 4.0, False, lambda sample: sample.descriptors),
    Measure("threads", 1.0, 2.0, True, lambda sample: sample.threads),
    # So much that neighbours on the same cores do not reach it.
    Measure("loop lag, ms", 20.0, 20.0, True, lambda sample: sample.lag_ms),
)


@dataclass
class Findings:
    """All that a run has found."""

    samples: list[Sample] = field(default_factory=list)
    injected: list[Injected] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    acknowledged: Counter[str] = field(default_factory=Counter)
    finished: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    # Faults that were not healed, lines on stderr, a wrong exit code.
    failed: list[str] = field(default_factory=list)
    requests: int = 0
    seen_again: int = 0
    # Of ``time.monotonic``.
    begun: float = 0.0
    # Whether so many jobs were done that all bounds were reached, in however short a life.
    is_settled: bool = False


def quiet(samples: Sequence[Sample]) -> list[Sample]:
    """Return the samples that were taken after the warm-up of their life, and neither in nor just after a fault."""
    found: list[Sample] = []
    for life in sorted({sample.life for sample in samples}):
        own = [sample for sample in samples if sample.life == life]
        first, last = own[0].at, own[-1].at
        settled = first + min(WARM_UP_S, (last - first) / WARM_UPS)
        for sample in own:
            if sample.fault:
                settled = max(settled, sample.at + SETTLED_S)
            elif sample.at >= settled:
                found.append(sample)
    return found


def trend_of(measure: Measure, samples: Sequence[Sample]) -> Trend | None:
    """Return how a measure grows in quiet times, per hour."""
    points = [
        (sample.life if measure.by_life else 0, sample.at, value)
        for sample in quiet(samples)
        if (value := measure.of(sample)) is not None
    ]
    return trend(points)


def verdicts(findings: Findings) -> tuple[list[str], bool]:
    """Return a line for each limit, and whether none is broken."""
    strange = unexplained(findings.troubles, findings.injected)
    counts: dict[str, Sequence[object]] = {
        "acknowledged jobs lost": findings.lost,
        "wrong states, results or lists": findings.wrong,
        "errors that no fault explains": strange,
        "faults not healed, and other failures": findings.failed,
    }
    lines = [f"{'FAIL' if found else 'PASS'}: {len(found):,} {what}" for what, found in counts.items()]
    good = not any(counts.values())
    if findings.acknowledged != findings.finished and not (findings.lost or findings.wrong):
        good = False
        lines.append(
            f"FAIL: of {findings.acknowledged.total():,} jobs acknowledged, "
            f"{findings.finished.total():,} were followed to the end"
        )
    seen = quiet(findings.samples)
    hours = (seen[-1].at - seen[0].at) / HOUR_S if seen else 0.0
    is_long = findings.is_settled or _longest_life_s(findings.samples) >= LONG_LIFE_S
    for measure in MEASURES:
        verdict = _judge(measure, trend_of(measure, findings.samples), None if is_long else hours)
        good = good and not verdict.startswith("FAIL")
        lines.append(verdict)
    return lines, good


def _longest_life_s(samples: Sequence[Sample]) -> float:
    found = 0.0
    for life in {sample.life for sample in samples}:
        at = [sample.at for sample in samples if sample.life == life]
        found = max(found, at[-1] - at[0])
    return found


def _judge(measure: Measure, found: Trend | None, hours: float | None) -> str:
    """Return the verdict on a slope; ``hours`` of quiet times where no life was long."""
    if found is None:
        return f"OPEN: {measure.name}: too few quiet samples for a slope; at most {measure.bound:g} an hour"
    told = f"{measure.name}: {found.slope:+.2f} an hour ({found.least:+.2f} to {found.most:+.2f})"
    if hours is not None:
        is_grown = found.least * hours > measure.slack
        told += f"; at most {measure.slack:g} in all, as no life took {LONG_LIFE_S:g} s"
        return f"FAIL: {told}" if is_grown else f"OPEN: {told}"
    told += f"; at most {measure.bound:g}"
    if found.least > measure.bound:
        return f"FAIL: {told}"
    return f"PASS: {told}" if found.most <= measure.bound else f"OPEN: {told}: the run is too short to tell"


def text(findings: Findings, how: dict[str, str]) -> str:
    """Return the report, Markdown."""
    lines, _ = verdicts(findings)
    parts = ["\n".join(f"- {line}" for line in lines)]
    if findings.samples:
        parts.append(_measures(findings.samples))
    if findings.acknowledged:
        kinds = sorted(findings.acknowledged)
        rows = [[kind, f"{findings.acknowledged[kind]:,}", f"{findings.finished[kind]:,}"] for kind in kinds]
        rows.append(["all", f"{findings.acknowledged.total():,}", f"{findings.finished.total():,}"])
        parts.append(report.table(["jobs", "acknowledged", "ended as they must"], rows))
        parts.append(f"{findings.seen_again:,} of them were asked for again a while after their end.")
    if findings.injected:
        parts.append(_faults(findings))
    strange = unexplained(findings.troubles, findings.injected)
    told = [f"{one.begun - findings.begun:.1f} s: {one.request}: {one.what}" for one in strange]
    for title, found in {
        "Lost": findings.lost, "Wrong": findings.wrong, "Unexplained": told, "Failed": findings.failed
    }.items():  # fmt: skip
        if found:
            more = [f"- … and {len(found) - SHOWN:,} more"] if len(found) > SHOWN else []
            parts.append("\n".join([f"{title}:", "", *(f"- {line}" for line in found[:SHOWN]), *more]))
    return "\n\n".join([*parts, report.facts(how)])


def _measures(samples: Sequence[Sample]) -> str:
    rows = []
    for measure in MEASURES:
        values = [value for sample in quiet(samples) if (value := measure.of(sample)) is not None]
        found = trend_of(measure, samples)
        slope = ["-", "-"] if found is None else [f"{found.slope:+.2f}", f"{found.least:+.2f} to {found.most:+.2f}"]
        rows.append([measure.name, report.spread(values) if values else "-", *slope, f"{measure.bound:g}"])
    head = ["in quiet times", "median (least-most)", "growth an hour", f"{CONFIDENCE:.0%} interval", "at most"]
    return report.table(head, rows)


def _faults(findings: Findings) -> str:
    rows = []
    for what, times in Counter(fault.what for fault in findings.injected).items():
        own = [fault for fault in findings.injected if fault.what == what]
        seen = Counter(one.what for one in findings.troubles if any(fault.explains(one) for fault in own))
        errors = ", ".join(f"{number:,} times {error}" for error, number in seen.most_common()) or "none"
        seconds = [fault.ended - fault.begun for fault in own]
        rows.append([what, f"{times:,}", report.spread(seconds), errors])
    return report.table(["fault", "times", "seconds until ready again", "errors that it explains"], rows)


def draw(target: Path, findings: Findings, title: str) -> str:
    """Write soak.png and soak.svg, a chart for each measure over minutes; return what to tell the user."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return "no chart: matplotlib is not installed (pip install --group bench)"
    samples = findings.samples
    figure = Figure(figsize=(10, 2.2 * len(MEASURES)), layout="constrained")
    axes = figure.subplots(len(MEASURES), 1, sharex=True)
    taken = set(map(id, quiet(samples)))
    for one, measure in zip(axes, MEASURES, strict=True):
        points = [(sample.at / 60, value, sample) for sample in samples if (value := measure.of(sample)) is not None]
        one.plot([at for at, _, _ in points], [value for _, value, _ in points], color="tab:gray", linewidth=0.7)
        judged = [(at, value) for at, value, sample in points if id(sample) in taken]
        one.plot([at for at, _ in judged], [value for _, value in judged], ".", markersize=2, color="tab:blue")
        found = trend_of(measure, samples)
        one.set_title(
            "" if found is None else f"{found.slope:+.2f} an hour, {found.least:+.2f} to {found.most:+.2f}", fontsize=9
        )
        one.set_ylabel(measure.name, fontsize=9)
        one.grid(alpha=0.3)
        for fault in findings.injected:
            colour = "tab:red" if fault.what == "deploy" else "tab:orange"
            one.axvspan(*((at - findings.begun) / 60 for at in (fault.begun, fault.ended)), color=colour, alpha=0.25)
    axes[-1].set_xlabel("minutes. Red: a deploy, orange: another fault, blue: quiet times, of which the slope is")
    figure.suptitle(title)
    for kind in ("png", "svg"):
        figure.savefig(target / f"soak.{kind}", dpi=100)
    return f"chart: {target / 'soak.svg'}"
