"""The exit codes of the command line. docs/cli.md has them for people."""

from __future__ import annotations

# Something that was looked at is not as it should be.
EXIT_WRONG = 1
# The command, or a setting, cannot be used.
EXIT_USAGE = 2
# The server does not know the job.
EXIT_UNKNOWN = 4
# The server refuses.
EXIT_REFUSED = 5
# No server answers, or it is full.
EXIT_UNREACHABLE = 6
EXIT_TIMED_OUT = 124
# As shells have them: 128 and the number of the signal.
EXIT_INTERRUPTED = 130
EXIT_PIPE_CLOSED = 141
