"""What /metrics and /stats say: read off the engine's own counts at the moment of asking."""

from __future__ import annotations

import time
from collections.abc import Iterator

from headway.core.job import State
from headway.core.journal.journal import Journal
from headway.core.stats import SECONDS_BOUNDS, Histogram
from headway.protocol.api.service import Service
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

MEDIA_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
OUTCOMES = (State.SUCCEEDED, State.FAILED, State.CANCELLED)


def exposition(service: Service) -> bytes:
    """Return all metrics in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(service))
    return generate_latest(registry)


def summary(service: Service) -> dict[str, object]:
    """Return the counts as /stats shows them; times in seconds, sizes in bytes."""
    engine = service.engine
    count = engine.board.count
    return {
        "jobs": {state.name.lower(): count[state] for state in State if State.EMPTY < state < State.EXPIRED},
        "waiting": len(engine.active.queue),
        "queue_size": engine.active.queue.size,
        "payload_bytes": engine.active.queue.payload_bytes,
        "oldest_queued_seconds": round(_oldest(service), 3),
        "retries": engine.active.stats.retries,
        "rejections": dict(service.rejections),
        "run_mean_seconds": round(engine.active.estimate.mean_so_far, 6),
        "results": {
            "kept": len(engine.active.results),
            "bytes": engine.active.results.used_bytes,
            "max_bytes": engine.active.results.max_bytes,
            "evicted": engine.active.results.evicted,
        },
        "board": {"rows": engine.board.rows, "bytes": engine.memory_bytes},
        "workers": {
            "count": engine.active.workers.count,
            "idle": engine.active.workers.idle,
            "replacements": engine.active.workers.replacements,
            "lost_threads": engine.active.workers.threads.lost,
        },
        "journal": _journal_summary(service),
        "connections": len(service.connections),
        "unanswered_bytes": service.unanswered.used_bytes,
        "untaken_bytes": service.untaken.used_bytes,
        "waiting_clients": len(engine.active.waiters),
        "draining": engine.draining,
    }


def _journal_summary(service: Service) -> dict[str, object] | None:
    journal = service.engine.journal
    if journal is None:
        return None
    return {
        "commits": journal.batches,
        "pending": journal.appended - journal.committed,
        "expired": journal.expired,
        "bytes": journal.size_bytes,
        "full": journal.full,
    }


def _oldest(service: Service) -> float:
    submitted = service.engine.oldest_queued
    return 0.0 if submitted is None else time.monotonic() - submitted


class _Snapshot(Collector):
    """The metrics as of now, for one scrape."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """Yield each metric."""
        yield from self._jobs()
        yield from self._process()
        if self._service.engine.journal is not None:
            yield from self._journal(self._service.engine.journal)
        requests = CounterMetricFamily("headway_http_requests", "Answers by route and code.", labels=["route", "code"])
        for (route, code), count in self._service.all_requests().items():
            requests.add_metric([route, code.decode()], count)
        yield requests

    def _jobs(self) -> Iterator[Metric]:
        engine = self._service.engine
        count = engine.board.count
        ended = CounterMetricFamily("headway_jobs", "Jobs that ended, by outcome.", labels=["outcome"])
        for state in OUTCOMES:
            ended.add_metric([state.name.lower()], count[state])
        yield ended
        for state, text in (
            (State.SCHEDULED, "Jobs that wait for their delay."),
            (State.QUEUED, "Jobs that are ready and wait for a worker."),
            (State.RUNNING, "Jobs that run."),
            (State.RETRYING, "Jobs that wait for their next attempt."),
        ):
            yield GaugeMetricFamily(f"headway_jobs_{state.name.lower()}", text, count[state])
        payload_bytes = engine.active.queue.payload_bytes
        yield GaugeMetricFamily("headway_payload_bytes", "Memory taken by payloads.", payload_bytes)
        oldest = _oldest(self._service)
        yield GaugeMetricFamily("headway_oldest_queued_seconds", "Age of the job that has been ready longest.", oldest)
        yield CounterMetricFamily(
            "headway_job_retries", "Attempts that failed and are made again.", engine.active.stats.retries
        )
        yield _histogram("headway_job_wait_seconds", "From ready to the start of an attempt.", engine.active.stats.wait)
        yield _histogram("headway_job_run_seconds", "From the start of an attempt to its end.", engine.active.stats.run)
        rejections = CounterMetricFamily("headway_rejections", "Requests refused, by reason.", labels=["reason"])
        for reason, refused in self._service.rejections.items():
            rejections.add_metric([reason], refused)
        yield rejections

    def _process(self) -> Iterator[Metric]:
        engine = self._service.engine
        workers = engine.active.workers
        yield GaugeMetricFamily("headway_workers", "Worker tasks.", workers.count)
        yield GaugeMetricFamily("headway_workers_idle", "Workers with nothing to do.", workers.idle)
        yield CounterMetricFamily(
            "headway_worker_replacements",
            "Attempts that ignored their cancellation and were given up.",
            workers.replacements,
        )
        if workers.processes is not None:
            pool = workers.processes
            yield GaugeMetricFamily("headway_processes", "Worker processes that serve.", pool.up)
            ended = CounterMetricFamily("headway_process_ends", "Worker processes that ended.", labels=["why"])
            for why, count in (("crashed", pool.restarts), ("killed", pool.killed), ("recycled", pool.recycled)):
                ended.add_metric([why], count)
            yield ended
        lag = engine.watchdog.lag
        yield _histogram("headway_loop_lag_seconds", "By how much the event loop was late, a few times a second.", lag)
        yield CounterMetricFamily("headway_loop_stalls", "Stalls of the event loop.", engine.watchdog.stalls)
        yield GaugeMetricFamily("headway_lost_threads", "Threads of attempts that are over.", workers.threads.lost)
        yield GaugeMetricFamily("headway_results_bytes", "Memory taken by results.", engine.active.results.used_bytes)
        yield CounterMetricFamily(
            "headway_results_evicted", "Results given up for the budget.", engine.active.results.evicted
        )
        yield GaugeMetricFamily("headway_connections", "Clients connected.", len(self._service.connections))
        for name, budget, text in (
            ("unanswered", self._service.unanswered, "requests that have come in part or wait"),
            ("untaken", self._service.untaken, "answers that clients have not taken"),
        ):
            yield GaugeMetricFamily(f"headway_{name}_bytes", f"Memory taken by {text}.", budget.used_bytes)
            yield CounterMetricFamily(f"headway_{name}_ended", "Clients that had to give way.", budget.gave_way)
        yield GaugeMetricFamily("headway_waiting_clients", "Answers held by Prefer: wait.", len(engine.active.waiters))
        yield GaugeMetricFamily("headway_draining", "1 while the server shuts down.", int(engine.draining))

    def _journal(self, journal: Journal) -> Iterator[Metric]:
        yield _histogram("headway_journal_commit_seconds", "Of a batch of changes.", journal.commit_seconds)
        pending = journal.appended - journal.committed
        yield GaugeMetricFamily("headway_journal_pending", "Changes that are not committed yet.", pending)
        yield CounterMetricFamily("headway_journal_expired", "Jobs deleted by retention.", journal.expired)
        yield GaugeMetricFamily("headway_journal_bytes", "The file and its log on disk.", journal.size_bytes)
        yield GaugeMetricFamily("headway_journal_full", "1 while there is no room on disk.", int(journal.full))


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    buckets, total = [], 0
    for bound, count in zip((*map(str, SECONDS_BOUNDS), "+Inf"), histogram.buckets, strict=True):
        total += count
        buckets.append((bound, float(total)))
    family = HistogramMetricFamily(name, text)
    family.add_metric([], buckets, histogram.sum)
    return family
