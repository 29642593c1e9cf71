"""What an engine shows its gateways: its rows, and how things stand."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from headway.core.gateway.standing import Hello, LineStanding, RingStanding, Standing
from headway.core.job import State
from headway.core.local.engine import LocalEngine
from headway.core.local.salvage import remains_of
from headway.core.order import OWN_TASKS
from headway.core.queue.ready import PRIORITIES, Limit, Line
from headway.core.retry_after.estimate import RunTimes


class Showing:
    """What ``engine`` shows. ``program`` is the fingerprint of its program."""

    def __init__(self, engine: LocalEngine, program: str) -> None:
        self._engine = engine
        self._program = program

    @property
    def messages(self) -> Mapping[int, str]:
        """The messages beside the progress of running jobs."""
        return self._engine.active.messages

    def when_message(self, tell: Callable[[int, str], object]) -> None:
        """Have ``tell`` called when a running job has another message, with its number."""
        self._engine.active.on_message = tell

    @property
    def board_fd(self) -> int:
        """The file of the rows, -1 if they are in no file."""
        return self._engine.board.fd

    def remains(self) -> tuple[int, int] | None:
        """Return the file of the rows, and a new one that says how they are read, for an engine that follows a crash.

        None: jobs outlive this process.
        """
        return (self.board_fd, remains_of(self._engine)) if self._engine.durability == "memory" else None

    @property
    def moved(self) -> float:
        """When a job last began or ended, of time.monotonic: what is known of run times changes with it."""
        return self._engine.active.estimate.moved

    @property
    def has_first(self) -> bool:
        """Whether one of the first jobs runs: something new is known of it soon."""
        first = self._engine.active.estimate.first
        return first is not None and len(first.running) > 0

    def hello(self) -> Hello:
        """Return all that does not change."""
        engine = self._engine
        ids, queue, board = engine.ids, engine.active.queue, engine.board
        tasks = {task.name: engine.accepts(task.name) for task in engine.registry.tasks}
        return Hello(
            program=self._program,
            durability=engine.durability,
            secret=ids.secret,
            salts=ids.salts,
            since=ids.since,
            rows=board.rows,
            annex=board.annex,
            kept_jobs=tuple(board.kept_jobs),
            names=engine.reading.names,
            accepts={name: accepts for name, accepts in tasks.items() if accepts is not None},
            tasks=len(engine.registry.tasks),
            own=len(OWN_TASKS),
            workers=engine.active.workers.count,
            line_numbers=[*queue.line_numbers],
            usual=queue.usual(),
        )

    def standing(self) -> Standing:
        """Return how things stand now."""
        engine = self._engine
        active, board, queue = engine.active, engine.board, engine.active.queue
        (lines, apart), limits = queue.seen(), queue.limits
        number = {limit: at for at, limit in enumerate(limits)}
        return Standing(
            not_ready=engine.not_ready,
            draining=engine.admission.draining,
            full=engine.changes.full,
            room=queue.room,
            size=queue.size,
            payload_room=engine.config.queue.max_bytes - queue.payload_bytes,
            running=board.count[State.RUNNING],
            ready=queue.ready,
            limits=[(limit.most, limit.running) for limit in limits],
            lines=[_standing(line, number) for line in lines],
            apart=apart,
            above=[queue.rate_above(priority, time.monotonic()) for priority in range(PRIORITIES)],
            holds=dict(active.holds.held),
        )

    def run_times(self, knows: dict[int, tuple[float, float, int]]) -> RunTimes:
        """Return what was learnt of run times since one knew what ``knows`` says, which is brought up to date."""
        self._engine.promises.look_at_first(time.monotonic())
        return self._engine.active.estimate.shown(knows)


def _standing(line: Line, number: Mapping[Limit, int]) -> LineStanding:
    rings = [
        RingStanding(
            priority=priority,
            head=ring.head,
            tail=ring.tail,
            entries=len(ring),
            first=ring.first(),
            last=ring.at(ring.tail - 1),
        )
        for priority, ring in enumerate(line.rings)
        if line.ready >> priority & 1
    ]
    return LineStanding(line.number, line.is_aside, [number[limit] for limit in line.limits], rings)
