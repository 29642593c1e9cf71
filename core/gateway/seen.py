"""All that a gateway has of one engine: its rows, and the rest to read them by."""

from __future__ import annotations

from headway.core.config import Config
from headway.core.gateway.lines import SeenLines
from headway.core.gateway.rows import KEEPS_ORDER, SeenPromises, SeenRows
from headway.core.gateway.standing import Hello, Standing
from headway.core.gateway.statuses import SeenStatuses
from headway.core.hold import TaskHold
from headway.core.interface import Polled
from headway.core.job import State
from headway.core.retry_after.estimate import Estimate


class Seen:
    """What the engine that has said ``hello`` shows. ``fd`` is the file of its rows."""

    def __init__(self, config: Config, hello: Hello, fd: int) -> None:
        self.hello = hello
        self.rows = SeenRows(hello, fd)
        lines = SeenLines(self.rows, hello)
        polls_per_second = config.polling.share * config.polling.capacity
        self.estimate = Estimate(hello.workers, hello.tasks, polls_per_second, hello.line_numbers, hello.own)
        self._promises = SeenPromises(self.rows, lines, self.estimate)
        self._lines = lines
        self._held: dict[int, TaskHold] = {}
        self._messages: dict[int, str] = {}
        self._promises.held = self._held
        self.statuses = SeenStatuses(hello, self.rows, lines, self._promises, held=self._held, messages=self._messages)
        self.polled: Polled | None = self.statuses if KEEPS_ORDER else None

    def see(self, now: Standing) -> None:
        """Go by how things stand now."""
        self.rows.count[State.RUNNING] = now.running
        self._lines.see(now)
        if now.holds != self._held:
            self._held.clear()
            self._held.update(now.holds)
            self._promises.forget_all()

    def hear(self, said: dict[int, str]) -> None:
        """Take the messages of running jobs, empty for none."""
        for sequence, message in said.items():
            if message:
                self._messages[sequence] = message
            else:
                self._messages.pop(sequence, None)

    def forget(self) -> None:
        """Forget the messages of jobs that have ended. Call this now and then."""
        for sequence in [*self._messages]:
            if self.statuses.has_ended(sequence):
                del self._messages[sequence]
