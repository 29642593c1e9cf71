"""The content of /metrics, from the engine's own counts at the moment of the request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from headway.core import errors
from headway.core.counted import Counted
from headway.core.job import State
from headway.core.stats import SECONDS_BOUNDS, Counts, Histogram, JournalCounts, StoreCounts
from headway.core.status import TaskStatus
from headway.protocol.api.series import by_task
from headway.protocol.http.problems import REFUSALS
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

MEDIA_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.HeadwayError)]
ANSWERED = [kind.reason for kind in ERRORS if kind.status != 500 or kind is errors.JournalError]
# Each reason is there from the start. Of a series that comes later Prometheus cannot see the first
# increase.
REASONS = dict.fromkeys((*REFUSALS, *ANSWERED))


def exposition(counts: Counts, all_of: Counted, tasks: Sequence[TaskStatus], of_process: Iterable[Metric]) -> bytes:
    """Return all metrics in Prometheus' text format. ``all_of`` was counted of clients, by all gateways."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(counts, all_of, of_process))
    return generate_latest(registry) + by_task(tasks).encode()


class _Snapshot(Collector):
    """The metrics as of now, for one scrape."""

    def __init__(self, counts: Counts, all_of: Counted, of_process: Iterable[Metric]) -> None:
        self._counts = counts
        self._all_of = all_of
        self._of_process = of_process

    def collect(self) -> Iterator[Metric]:
        """Yield each metric."""
        yield from self._of_process
        yield from self._jobs()
        yield from self._process()
        if self._counts.journal is not None:
            yield from self._journal(self._counts.journal)
        if self._counts.store is not None:
            yield from self._store(self._counts.store)
        requests = CounterMetricFamily("headway_http_requests", "Answers by route and code.", labels=["route", "code"])
        for name, count in self._all_of.of("requests"):
            route, _, code = name.rpartition(" ")
            requests.add_metric([route, code], count)
        yield requests

    def _jobs(self) -> Iterator[Metric]:
        counts, count = self._counts, self._counts.jobs
        for state, text in (
            (State.SCHEDULED, "Jobs that wait for their delay."),
            (State.RETRYING, "Jobs that wait for their next attempt."),
        ):
            yield GaugeMetricFamily(f"headway_jobs_{state.name.lower()}", text, count[state])
        yield GaugeMetricFamily("headway_payload_bytes", "Memory taken by payloads.", counts.payload_bytes)
        yield CounterMetricFamily("headway_job_retries", "Attempts that failed and are made again.", counts.retries)
        rejections = CounterMetricFamily("headway_rejections", "Requests refused, by reason.", labels=["reason"])
        refused = dict(self._all_of.of("rejections"))
        for reason in REASONS:
            rejections.add_metric([reason], refused.get(reason, 0))
        yield rejections

    def _process(self) -> Iterator[Metric]:
        counts, all_of = self._counts, self._all_of
        workers, pool = counts.workers, counts.processes
        yield GaugeMetricFamily("headway_workers", "Worker tasks.", workers.count)
        yield GaugeMetricFamily("headway_workers_idle", "Workers with nothing to do.", workers.idle)
        yield CounterMetricFamily(
            "headway_worker_replacements",
            "Attempts that ignored their cancellation and were given up.",
            workers.replacements,
        )
        if pool is not None:
            yield GaugeMetricFamily("headway_processes", "Worker processes that serve.", pool.up)
            ended = CounterMetricFamily("headway_process_ends", "Worker processes that ended.", labels=["why"])
            for why, count in (("crashed", pool.crashed), ("killed", pool.killed), ("recycled", pool.recycled)):
                ended.add_metric([why], count)
            yield ended
        yield _histogram(
            "headway_loop_lag_seconds", "By how much the event loop was late, a few times a second.", counts.loop_lag
        )
        yield CounterMetricFamily("headway_loop_stalls", "Stalls of the event loop.", counts.loop_stalls)
        yield GaugeMetricFamily("headway_lost_threads", "Threads of attempts that have ended.", workers.lost_threads)
        yield GaugeMetricFamily("headway_results_bytes", "Memory taken by results.", counts.results_bytes)
        yield CounterMetricFamily("headway_results_evicted", "Results given up for the budget.", counts.results_evicted)
        yield GaugeMetricFamily("headway_connections", "Clients connected.", all_of.now["connections"])
        failed = CounterMetricFamily(
            "headway_entries_failed", "Connections that ended on their way in.", labels=["step"]
        )
        for step, count in all_of.of("entries_failed"):
            failed.add_metric([step], count)
        yield failed
        closed = CounterMetricFamily(
            "headway_connections_closed", "Connections closed by a limit on clients.", labels=["why"]
        )
        for why, count in all_of.of("closed"):
            closed.add_metric([why], count)
        yield closed
        for name, text in (
            ("unanswered", "incomplete and waiting requests"),
            ("untaken", "answers that clients have not taken"),
        ):
            yield GaugeMetricFamily(f"headway_{name}_bytes", f"Memory taken by {text}.", all_of.now[f"{name}_bytes"])
            yield CounterMetricFamily(
                f"headway_{name}_ended", "Clients that had to give way.", all_of.ever[f"{name}_ended"]
            )
        waiting = counts.waiting_clients + all_of.now["waiting"]
        yield GaugeMetricFamily("headway_waiting_clients", "Clients that wait by Prefer: wait.", waiting)
        yield CounterMetricFamily(
            "headway_waits_ignored", "Prefer: wait that was ignored at limits.waiting.", all_of.ever["waits_ignored"]
        )
        yield GaugeMetricFamily("headway_readers", "Open streams of events.", counts.readers)
        yield GaugeMetricFamily("headway_draining", "1 while the server shuts down.", int(counts.draining))

    def _journal(self, journal: JournalCounts) -> Iterator[Metric]:
        yield _histogram("headway_journal_commit_seconds", "Duration of a commit.", journal.commit_seconds)
        yield GaugeMetricFamily("headway_journal_pending", "Changes that are not committed yet.", journal.pending)
        yield CounterMetricFamily("headway_journal_expired", "Jobs deleted by retention.", journal.expired)
        yield GaugeMetricFamily("headway_journal_bytes", "The file and its log on disk.", journal.size_bytes)
        yield CounterMetricFamily(
            "headway_journal_writer_restarts", "Writers started after one had died.", journal.writer_restarts
        )
        yield GaugeMetricFamily("headway_journal_full", "1 while there is no room on disk.", int(journal.full))

    def _store(self, store: StoreCounts) -> Iterator[Metric]:
        for name, text, value in (
            ("up", "1 while the store answers this node.", int(store.up)),
            ("step_age_seconds", "Time since the store last did a step of this node.", store.step_age_s),
            ("outbox", "Ends of jobs that the store does not have yet.", store.outbox),
            ("nodes", "Nodes of the queue that are alive.", store.nodes),
        ):
            yield GaugeMetricFamily(f"headway_store_{name}", text, value)
        for name, text, value in (
            ("reconnects", "Connections to the store that were lost and made again.", store.reconnects),
            ("round_trips", "Requests to the store, each of all that one turn asks for.", store.round_trips),
            ("cache_hits", "Statuses answered from memory.", store.cache_hits),
            ("cache_misses", "Statuses that the store was asked for.", store.cache_misses),
            ("fenced", "Ends dropped, because the job had gone to another node.", store.fenced),
            ("reclaimed", "Jobs of dead nodes that this node put back.", store.reclaimed),
        ):
            yield CounterMetricFamily(f"headway_store_{name}", text, value)


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    buckets, total = [], 0
    for bound, count in zip((*map(str, SECONDS_BOUNDS), "+Inf"), histogram.buckets, strict=True):
        total += count
        buckets.append((bound, float(total)))
    family = HistogramMetricFamily(name, text)
    family.add_metric([], buckets, histogram.sum)
    return family
