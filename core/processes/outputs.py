"""All output of one worker process, seen from the loop: of its job, of jobs that are over, and of no job.

What a job prints comes by a pipe of its own, to the log of the job. All that was written before an
answer, or before a death, is read before that is heard. Reading takes a share of the loop's time at
most. The pipe is kept for the next job unless a program was started, which may hold it. Then it is
read until nobody has it, and its text is dropped. What the process writes between jobs comes by
another pipe (see stray).
"""

from __future__ import annotations

from collections.abc import Callable

from headway.core import forks
from headway.core.processes import ends
from headway.core.processes.output_pipe import OutputPipe
from headway.core.processes.stray import Stray

# Pipes of jobs that are over, to which programs of theirs may still write.
LEFT_MOST = 16


class Outputs:
    """The pipes for the output of a process.

    ``has_read`` is called with the time at which a read began, and returns the seconds until the next
    one may. ``wrote`` is called with what the process wrote while no job ran.
    """

    def __init__(self, has_read: Callable[[float], float], wrote: Callable[[str], None]) -> None:
        self._has_read = has_read
        self._stray = Stray(wrote)
        self._of_job: OutputPipe | None = None
        self._of_none: OutputPipe | None = None
        self._left: list[OutputPipe] = []
        # Whether the next job needs a pipe.
        self._lacks_pipe = True
        # The socket by which the process is handed pipes.
        self._ends_fd = -1

    def open(self, is_trial: bool) -> tuple[int, int | None]:
        """Return the descriptors for a new process: by which it is handed pipes, and of its output.

        The former is the caller's to close. A trial writes to the output of the server: None. Raises OSError
        if there is no file left for one of them.
        """
        self._ends_fd, theirs = ends.pair()
        if is_trial:
            return theirs, None
        try:
            self._of_none = OutputPipe(self._has_read)
        except OSError:
            forks.close(theirs)
            raise
        self._of_none.write = self._stray.add
        return theirs, self._of_none.theirs

    def start(self) -> None:
        """Read, now that the process has the descriptors."""
        if self._of_none is not None:
            self._of_none.start()

    def begin(self, write: Callable[[bytes], None]) -> None:
        """Have ``write`` called with the output of a job that begins."""
        if self._lacks_pipe:
            self._hand_pipe()
        if self._of_job is not None:
            self._of_job.write = write

    def take(self) -> None:
        """Take the output of the job that runs. What comes later is of no job, or of the next."""
        if self._of_job is not None:
            self._of_job.take()

    def end(self, is_left: bool) -> None:
        """The job has ended. ``is_left``: programs that it has started may hold its pipe."""
        self._lacks_pipe = is_left
        if self._of_job is None:
            return
        self._of_job.write = None
        if is_left:
            self._left = [pipe for pipe in (*self._left, self._of_job) if pipe.is_open]
            self._of_job = None

    @property
    def are_too_many(self) -> bool:
        """Whether jobs have left so many pipes behind that another process has to take its place."""
        return len(self._left) > LEFT_MOST

    def close(self) -> str:
        """Take the rest of all output, and close the pipes. Return what was last written while no job ran."""
        for pipe in (self._of_job, self._of_none, *self._left):
            if pipe is not None:
                pipe.take()
                pipe.close()
        text = self._stray.close()
        if self._ends_fd >= 0:
            forks.close(self._ends_fd)
            self._ends_fd = -1
        return text

    def _hand_pipe(self) -> None:
        """Give the process another pipe for the output of jobs."""
        try:
            self._of_job = OutputPipe(self._has_read)
        except OSError:
            # There is no file left for it. Such a job writes as the process itself does.
            ends.hand(self._ends_fd, -1)
            return
        ends.hand(self._ends_fd, self._of_job.theirs)
        self._of_job.start()
