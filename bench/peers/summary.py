"""What was measured as Markdown and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from bench import report
from bench.measure import Load
from bench.peers.cases import Case, Results
from bench.peers.catalogue import HEADWAY, NGINX

HEAD = (
    "server",
    "CPU µs/request (min-max)",
    "user + kernel",
    "x nginx",
    "x Headway",
    "requests/s (min-max)",
    "others, cores",
)


def markdown(cases: Iterable[Case], results: Results, how: Mapping[str, str], absent: Mapping[str, str]) -> str:
    """Return the tables, the verdicts on the limits, what was not run, and how it was measured."""
    parts = []
    for case in cases:
        loads = results[case.name]
        if loads:
            rows = sorted(loads, key=lambda name: statistics.median(load.cpu_us for load in loads[name]))
            parts.append(f"### {case.name}\n\n{report.table(HEAD, [_row(name, loads) for name in rows])}")
    verdicts = [verdict for case in cases if (verdict := _verdict(case, results[case.name]))]
    parts.append("\n".join(f"- {line}" for line in [*verdicts, *(f"{name}: {why}" for name, why in absent.items())]))
    parts.append(report.facts(how))
    return "\n\n".join(part for part in parts if part)


def medians(loads: Mapping[str, Sequence[Load]]) -> dict[str, float]:
    """Return the median µs per request of each server."""
    return {name: statistics.median(load.cpu_us for load in rounds) for name, rounds in loads.items()}


def _row(name: str, loads: Mapping[str, Sequence[Load]]) -> list[str]:
    rounds = loads[name]
    user, kernel = (statistics.median(getattr(load, part) for load in rounds) for part in ("user_us", "kernel_us"))
    return [
        name,
        report.spread([load.cpu_us for load in rounds]),
        f"{user:.1f} + {kernel:.1f}",
        *(_ratio(rounds, loads.get(other)) for other in (NGINX.name, HEADWAY.name)),
        report.spread([load.rate for load in rounds], ",.0f"),
        f"{statistics.median(load.noise for load in rounds):.2f}",
    ]


def _ratio(rounds: Sequence[Load], others: Sequence[Load] | None) -> str:
    return f"{statistics.median(_ratios(rounds, others)):.2f}" if others else "-"


def _ratios(rounds: Sequence[Load], others: Sequence[Load]) -> list[float]:
    """The ratio within each round, so that a machine that slows down slows both."""
    return [load.cpu_us / other.cpu_us for load, other in zip(rounds, others, strict=False)]


def _verdict(case: Case, loads: Mapping[str, Sequence[Load]]) -> str:
    if not case.limit or NGINX.name not in loads or HEADWAY.name not in loads:
        return ""
    ratios = _ratios(loads[HEADWAY.name], loads[NGINX.name])
    word = "PASS" if statistics.median(ratios) <= case.limit else "FAIL"
    return f"{word}: {case.name}: {report.spread(ratios, '.2f')} x nginx, at most {case.limit:g}"


def data(results: Results, how: Mapping[str, str], absent: Mapping[str, str]) -> dict[str, object]:
    """Return all rounds as JSON values."""
    return {
        "how": dict(how),
        "not run": dict(absent),
        "cases": {
            case: {name: [_load(load) for load in rounds] for name, rounds in loads.items()}
            for case, loads in results.items()
        },
    }


def _load(load: Load) -> dict[str, float]:
    return {
        "requests": load.requests,
        "seconds": round(load.seconds, 4),
        "user_us": round(load.user_us, 3),
        "kernel_us": round(load.kernel_us, 3),
        "requests_per_s": round(load.rate, 1),
        "others_cores": round(load.noise, 3),
    }
