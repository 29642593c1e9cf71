"""The tables of the bench of the cluster, and its limits."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from bench import report

# So many times the jobs/s of the best other queue, end to end with the status of each read.
TIMES_BEST = 3.0
# Jobs/s of two nodes beside one, with tasks that take a while.
TWO_NODES_LEAST = 1.9
# CPU of a job on two nodes beside one, nodes and store together.
CPU_MOST = 1.15
# A node that does nothing calls the store now and then, more often at one time than at another: so many calls are no
# cost of reads.
CALLS_SLACK = 20
# For hints of jobs that wait a node asks for the shared counts, once a second at most: calls for each HEAD.
CALLS_A_WAITING_HEAD = 0.02

Turns = Mapping[str, Sequence[Mapping[str, Any]]]
HEAD = (
    "queue", "jobs/s, told", "finished/s", "enqueued/s", "CPU a job, µs: all", "submitters", "workers", "store",
    "bytes queued", "bytes kept", "workers are",
)  # fmt: skip


def tables(turns: Turns, queued: Mapping[str, float], nodes: Turns, reads: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the tables of what there is."""
    made = [report.table(HEAD, [_row(name, found, queued) for name, found in turns.items()])] if turns else []
    if nodes:
        rows = [
            [name, *(_spread(found, key) for key in ("told_per_s", "finished_per_s")), _spread(found, "served_us")]
            for name, found in _served(nodes).items()
        ]
        made.append(report.table(["Headway", "jobs/s, told", "finished/s", "CPU a job of nodes and store, µs"], rows))
    if reads:
        rows = [
            ["HEAD/s of one node, 64 connections", _spread(reads, "heads_per_s")],
            ["… CPU of the node, µs", _spread(reads, "head_us", ".1f")],
            *_calls(reads, "of_ended", "jobs that have ended"),
            *_calls(reads, "of_waiting", "jobs that wait"),
        ]
        made.append(report.table(["reads of known jobs", ""], rows))
    return made


def _calls(reads: Sequence[Mapping[str, Any]], which: str, name: str) -> list[list[str]]:
    found = [one[which] for one in reads]
    return [
        [f"HEADs of {name}, {reads[0]['at_once']:,} at once", _spread(found, "heads")],
        ["… calls of the store meanwhile", _spread(found, "calls")],
        ["… and in the same time without them", _spread(found, "calls_idle")],
    ]


def _row(name: str, found: Sequence[Mapping[str, Any]], queued: Mapping[str, float]) -> list[str]:
    return [
        name,
        *(_spread(found, key) for key in ("told_per_s", "finished_per_s", "enqueued_per_s")),
        *(_spread(found, f"{who}_us") for who in ("all", "submitters", "workers", "store")),
        f"{queued[name]:,.0f}",
        _spread(found, "bytes_per_kept_job"),
        str(found[0]["workers"]),
    ]


def _served(nodes: Turns) -> dict[str, list[dict[str, Any]]]:
    """Add the CPU of a job without that of who submits it."""
    return {
        name: [dict(one) | {"served_us": one["workers_us"] + one["store_us"]} for one in found]
        for name, found in sorted(nodes.items())
    }


def _spread(found: Sequence[Mapping[str, Any]], key: str, form: str = ",.0f") -> str:
    values = [float(one[key]) for one in found]
    return report.spread(values, form) if len(values) > 1 else f"{values[0]:{form}}"


def verdicts(turns: Turns, nodes: Turns, reads: Sequence[Mapping[str, Any]]) -> tuple[list[str], bool]:
    """Return a line for each limit that could be looked at, and whether all are met."""
    lines: list[str] = []
    good = True

    def say(is_met: bool, text: str) -> None:
        nonlocal good
        good = good and is_met
        lines.append(f"{'PASS' if is_met else 'FAIL'}: {text}")

    others = {name: _median(found, "told_per_s") for name, found in turns.items() if name != "headway"}
    if others and "headway" in turns:
        best = max(others, key=lambda name: others[name])
        ratio = _median(turns["headway"], "told_per_s") / others[best]
        say(ratio >= TIMES_BEST, f"{ratio:.2f} times the jobs/s of the best other, {best}; at least {TIMES_BEST:g}")
    served = _served(nodes)
    if {"nap on one", "nap on two"} <= served.keys():
        ratio = _ratio(served["nap on two"], served["nap on one"], "finished_per_s")
        say(ratio >= TWO_NODES_LEAST, f"two nodes do {ratio:.2f} times the jobs/s of one; at least {TWO_NODES_LEAST}")
    if {"noop on one", "noop on two"} <= served.keys():
        ratio = _ratio(served["noop on two"], served["noop on one"], "served_us")
        say(ratio <= CPU_MOST, f"a job on two nodes takes {ratio:.2f} times the CPU of one; at most {CPU_MOST}")
    if reads:
        extra, heads = _extra(reads, "of_ended")
        say(extra <= CALLS_SLACK, f"{heads:,} HEADs of known jobs that have ended cost the store {extra} calls")
        extra, heads = _extra(reads, "of_waiting")
        say(
            extra <= CALLS_SLACK + CALLS_A_WAITING_HEAD * heads,
            f"{heads:,} HEADs of known jobs that wait cost the store {extra} calls, by the counts of each second",
        )
    return lines, good


def _extra(reads: Sequence[Mapping[str, Any]], which: str) -> tuple[int, int]:
    """Return the calls of the store that reads cost, in the median, and how many reads there were at least."""
    found = [one[which] for one in reads]
    extra = statistics.median(one["calls"] - one["calls_idle"] for one in found)
    return max(round(extra), 0), min(one["heads"] for one in found)


def _median(found: Sequence[Mapping[str, Any]], key: str) -> float:
    return statistics.median(float(one[key]) for one in found)


def _ratio(over: Sequence[Mapping[str, Any]], under: Sequence[Mapping[str, Any]], key: str) -> float:
    """Return the median of the ratios of each round."""
    return statistics.median(float(one[key]) / float(other[key]) for one, other in zip(over, under, strict=True))
