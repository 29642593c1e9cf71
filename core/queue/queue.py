"""The jobs that wait: lines of ready jobs, and a schedule of delayed ones.

The bound ``size`` counts all waiting jobs: queued, scheduled and retrying. A job to retry was
admitted before and is let in past the bound. So at most ``size`` jobs stand here, and as many more
as there are workers.

The job of the highest priority is claimed, and of these the one that was submitted first. Each
FAIR_EVERY-th claim takes the job that was submitted first of all, so that no job waits for ever,
however many jobs of higher priorities come: docs/adr/0011.

Jobs stand in the line of their task. Most tasks share the first line. A task with a limit on how
many of its jobs may run at once has a line of its own. A line at its limit is passed over, so that
no other job waits behind it.

Some jobs stand *aside*, where no worker looks: those of a held task, in a line of its own, and
those of the server's own tasks. To hold a task is to move its jobs there, 2 µs each, and nothing is
claimed meanwhile. After the hold its line stands among the others until it is empty, so its jobs
keep their places. Jobs aside count for the bound, but for those of the server's own tasks, and are
in nobody's way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import inf

from headway.core.board.board import Board
from headway.core.order import OWN_MOST
from headway.core.queue.outlook import Outlook
from headway.core.queue.ready import PRIORITIES, Limit, Line
from headway.core.queue.schedule import Schedule

# Of so many claims one goes to the oldest job, whatever its priority.
FAIR_EVERY = 64
# The weight of the last second in the rate at which jobs come.
RATE_WEIGHT = 0.2


class Queue(Outlook):
    """All jobs that wait, each a sequence number with its row on ``board``.

    ``most`` is how many may stand here in all: ``size`` that are let in, and those that come back
    to be retried. ``limits`` has the limits of each task by its index. Tasks with the same limits
    share a line. After these tasks come ``own`` ones of the server, whose jobs stand aside.
    """

    board: Board

    def __init__(self, board: Board, size: int, most: int, limits: Sequence[tuple[Limit, ...]], own: int = 0) -> None:
        self.board = board
        self.size = size
        self._most = most
        lines = {under: Line(most, under) for under in limits}
        self.lines = list(lines.values())
        # Jobs of the server's own tasks.
        self.of_server = Line(OWN_MOST, (Limit(OWN_MOST),))
        # Called when one of these is ready.
        self.on_own: Callable[[], object] = int
        self.of_server.is_aside = True
        self._usual = [*(lines[under] for under in limits), *[self.of_server] * own]
        # By task: the line for the next of its jobs.
        self._line_of = self._usual[:]
        # By task: the line of one that is held, or was and whose line is not empty yet.
        self._lines_apart: dict[int, Line] = {}
        # Calls of ``moves`` that are not exhausted, and how often a ring has closed its holes.
        self._moving = self._compactions = 0
        # Jobs that stand aside, without those of the server's own tasks.
        self.aside = 0
        self._limits = list({limit: None for under in lines for limit in under})
        # By task, the index of its line.
        for number, line in enumerate(self.lines):
            line.number = number
        self.line_numbers = [line.number for line in self._line_of]
        self.delayed = Schedule()
        # Places of jobs that were admitted and do not stand here yet.
        self.reserved = 0
        # The payloads of all unfinished jobs, running and uncommitted ones included.
        self.payload_bytes = 0
        # Jobs that stand in lines.
        self.ready = 0
        # By task, its jobs among these: the one that has been ready longest comes first.
        self._ready_of: list[dict[int, None]] = [{} for _ in self._usual]
        self._until_fair = FAIR_EVERY
        # By priority: jobs that became ready so far, their number at ``_rated_at``, and how many
        # become ready in a second of late.
        self._came = [0] * PRIORITIES
        self._rated = [0] * PRIORITIES
        self._rates = [0.0] * PRIORITIES
        # The sum of the rates above each priority.
        self._above = [0.0] * PRIORITIES
        # Of time.monotonic. 0.0: nothing was rated yet.
        self._rated_at = 0.0

    def __len__(self) -> int:
        return self.ready + self.aside + len(self.of_server) + len(self.delayed)

    def __repr__(self) -> str:
        return f"<Queue {self.ready} ready, {self.aside} aside, {len(self.delayed)} delayed, of {self.size}>"

    @property
    def size_bytes(self) -> int:
        """Bytes of memory that the rings take once all slots were used."""
        return sum(ring.slots * 8 for line in {*self.lines, *self._lines_apart.values()} for ring in line.rings)

    @property
    def room(self) -> int:
        """How many new jobs can be accepted, below 0 if retrying jobs stand past the bound."""
        return self.size - self.ready - self.aside - len(self.delayed.when) - self.reserved

    def push(self, sequence: int) -> None:
        """Put a ready job at the end of its line."""
        board = self.board
        row = board.at(sequence)
        task, priority = board.task[row], board.priority[row]
        line = self._line_of[task]
        try:
            board.ticket[row] = line.push(sequence, priority)
        except IndexError:
            self._compactions += 1
            for moved, ticket in line.rings[priority].compact():
                board.ticket[board.at(moved)] = ticket
            board.ticket[row] = line.push(sequence, priority)
        self._ready_of[task][sequence] = None
        if not line.is_aside:
            self.ready += 1
            self._came[priority] += 1
        elif line is self.of_server:
            self.on_own()
        else:
            self.aside += 1

    def delay(self, sequence: int, due: float) -> None:
        """Keep a job until ``due``, of time.monotonic."""
        self.board.due[self.board.at(sequence)] = due
        self.delayed.add(sequence, due)

    def claim(self) -> int:
        """Take the next job and return its sequence number, 0 if none may run now."""
        if not self.ready or self._moving:
            return 0
        if self._until_fair == 1:
            sequence = self._claim_oldest()
        elif len(self.lines) == 1:
            sequence = self.lines[0].pop()
        else:
            lines = [line for line in self.lines if line.ready]
            sequence = (lines[0] if len(lines) == 1 else max(lines, key=_rank)).pop()
        if sequence:
            self.ready -= 1
            board = self.board
            del self._ready_of[board.task[board.at(sequence)]][sequence]
            self._until_fair = self._until_fair - 1 or FAIR_EVERY
            if self._lines_apart:
                self._drop_empty()
        return sequence

    def claim_own(self) -> int:
        """Take the next job of the server's own tasks and return its number, 0 if none may run now."""
        sequence = self.of_server.pop()
        if sequence:
            del self._ready_of[self.board.task[self.board.at(sequence)]][sequence]
        return sequence

    def _claim_oldest(self) -> int:
        firsts = [(*line.first(), line) for line in self.lines]
        sequence, priority, line = min(firsts, key=lambda first: first[0] or inf)
        return line.take(priority) if sequence else 0

    def release(self, task: int) -> None:
        """Count a claimed job of ``task`` as ended: its line has room for another."""
        for limit in self._line_of[task].limits:
            limit.running -= 1

    def remove(self, sequence: int) -> None:
        """Take out a job that waits."""
        if not self.delayed.remove(sequence):
            board, row = self.board, self.board.at(sequence)
            line = self._line_at(row)
            line.remove(board.priority[row], board.ticket[row])
            del self._ready_of[board.task[row]][sequence]
            if line.is_aside:
                self.aside -= line is not self.of_server
            else:
                self.ready -= 1

    # Holding.

    def hold(self, task: int) -> None:
        """Let no further job of ``task`` begin. Exhaust ``moves`` afterwards: until then none of any task does."""
        usual, apart = self._usual[task], self._lines_apart.get(task)
        if apart is None:
            apart = self._lines_apart[task] = Line(self._most, usual.limits)
            apart.number = usual.number
        else:
            self.lines.remove(apart)
            self.ready -= len(apart)
            self.aside += len(apart)
        apart.is_aside = True
        self._line_of[task] = apart
        self._moving += 1

    def moves(self, task: int) -> Iterator[None]:
        """Move the ready jobs of a task aside that was held, a look at a job a step."""
        try:
            before = -1
            # Closing holes gives jobs other tickets.
            while before != self._compactions:
                before = self._compactions
                for priority in range(PRIORITIES):
                    yield from self._move(task, priority)
        finally:
            self._moving -= 1

    def _move(self, task: int, priority: int) -> Iterator[None]:
        board, usual = self.board, self._usual[task]
        ring, ticket = usual.rings[priority], 0
        while (ticket := max(ticket, ring.head)) < ring.tail:
            apart, sequence = self._line_of[task], ring.at(ticket)
            if not apart.is_aside:
                # The hold has ended.
                return
            if sequence and board.task[board.at(sequence)] == task:
                usual.remove(priority, ticket)
                self.ready -= 1
                self.push(sequence)
            ticket += 1
            yield

    def end_hold(self, task: int) -> None:
        """Let jobs of a held ``task`` begin again. The caller wakes the workers."""
        apart = self._lines_apart[task]
        apart.is_aside = False
        self._line_of[task] = self._usual[task]
        self.lines.append(apart)
        self.aside -= len(apart)
        self.ready += len(apart)
        self._drop_empty()

    def _drop_empty(self) -> None:
        """Drop the lines of tasks that were held, once they are empty."""
        for task, line in [*self._lines_apart.items()]:
            if not (line.is_aside or len(line)):
                del self._lines_apart[task]
                self.lines.remove(line)

    def rate_above(self, priority: int, now: float) -> float:
        """Return how many jobs of higher priorities become ready in a second of late."""
        since = now - self._rated_at
        if since >= 1.0:
            if self._rated_at:
                weight = 1.0 - (1.0 - RATE_WEIGHT) ** since
                counts = zip(self._rates, self._came, self._rated, strict=True)
                self._rates = [rate + ((came - before) / since - rate) * weight for rate, came, before in counts]
                self._above = [sum(self._rates[above:]) for above in range(1, PRIORITIES + 1)]
            self._rated, self._rated_at = self._came[:], now
        return self._above[priority]

    def seen(self) -> tuple[list[Line], dict[int, int]]:
        """Return all lines for an outlook in another process.

        First come those of tasks that were never held, then the server's own, then those of tasks that are
        or were held. The others are, by task, the index of its line of the last kind.
        """
        apart = self._lines_apart
        lines = [line for line in self.lines if line not in apart.values()] if apart else self.lines[:]
        lines.append(self.of_server)
        at = len(lines)
        return [*lines, *apart.values()], {task: at + index for index, task in enumerate(apart)}

    def usual(self) -> list[int]:
        """Return, by task, the index among ``seen`` of the line in which its jobs stand as a rule."""
        lines, _ = self.seen()
        return [next(at for at, line in enumerate(lines) if line is usual) for usual in self._usual]

    @property
    def limits(self) -> Sequence[Limit]:
        """All limits on how many jobs run at once."""
        return [*self._limits, *self.of_server.limits]

    def length(self, task: int) -> int:
        """Return how many jobs of ``task`` are ready."""
        return 0 if self._line_of[task].is_aside else len(self._ready_of[task])

    def oldest(self, task: int) -> int:
        """Return the job of ``task`` that has been ready longest, 0 if none is ready."""
        return 0 if self._line_of[task].is_aside else next(iter(self._ready_of[task]), 0)


def _rank(line: Line) -> tuple[int, int]:
    """Return the sort key of a line: the higher priority, then the job that was submitted first."""
    priority = line.top
    return (priority, -line.rings[priority].first()) if priority >= 0 else (-1, 0)
