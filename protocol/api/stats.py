"""The counts, as ``GET /stats`` shows them."""

from __future__ import annotations

from headway.core.counted import Counted
from headway.core.job import State
from headway.core.stats import Counts, JournalCounts, ProcessCounts, StoreCounts
from headway.protocol.api import load


def summary(counts: Counts, all_of: Counted) -> dict[str, object]:
    """Return the counts as /stats shows them; times in seconds, sizes in bytes. ``all_of``: of all gateways."""
    workers, journal = counts.workers, counts.journal
    return {
        **load.members_of(counts.load),
        "jobs": {state.name.lower(): counts.jobs[state] for state in State if State.EMPTY < state < State.EXPIRED},
        "waiting": counts.waiting,
        "queue_size": counts.queue_size,
        "payload_bytes": counts.payload_bytes,
        "oldest_queued_seconds": round(counts.load.oldest_s, 3),
        "retries": counts.retries,
        "rejections": dict(all_of.of("rejections")),
        "run_mean_seconds": round(counts.run_mean_s, 6),
        "results": {
            "kept": counts.results_kept,
            "bytes": counts.results_bytes,
            "max_bytes": counts.results_max_bytes,
            "evicted": counts.results_evicted,
        },
        "board": {"rows": counts.rows, "bytes": counts.memory_bytes},
        "workers": {
            "count": workers.count,
            "idle": workers.idle,
            "replacements": workers.replacements,
            "lost_threads": workers.lost_threads,
        },
        "processes": None if counts.processes is None else _processes_summary(counts.processes),
        "journal": None if journal is None else _journal_summary(journal),
        "store": None if counts.store is None else _store_summary(counts.store),
        "connections": all_of.now["connections"],
        "unanswered_bytes": all_of.now["unanswered_bytes"],
        "untaken_bytes": all_of.now["untaken_bytes"],
        "waiting_clients": counts.waiting_clients + all_of.now["waiting"],
        "readers": counts.readers,
        "draining": counts.draining,
    }


def _processes_summary(processes: ProcessCounts) -> dict[str, object]:
    return {
        "up": processes.up,
        "pids": processes.pids,
        "crashed": processes.crashed,
        "killed": processes.killed,
        "recycled": processes.recycled,
    }


def _journal_summary(journal: JournalCounts) -> dict[str, object]:
    return {
        "commits": journal.commits,
        "pending": journal.pending,
        "expired": journal.expired,
        "bytes": journal.size_bytes,
        "full": journal.full,
    }


def _store_summary(store: StoreCounts) -> dict[str, object]:
    return {
        "up": store.up,
        "step_age_seconds": round(store.step_age_s, 3),
        "reconnects": store.reconnects,
        "round_trips": store.round_trips,
        "cache_hits": store.cache_hits,
        "cache_misses": store.cache_misses,
        "outbox": store.outbox,
        "fenced": store.fenced,
        "reclaimed": store.reclaimed,
        "nodes": store.nodes,
    }
