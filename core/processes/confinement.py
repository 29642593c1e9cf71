"""The confinement of a worker process: the user it runs as, and its share of the machine.

The server finds the user at its start. The process confines itself, before it imports a task module
and before it has a thread. A server that changed the user itself would have to fork, which stops it
for longer than a vfork (see spawn). Until then the process runs our code alone, with the HOME of
the server: that of the user may have a ``.pth`` file, which Python would run.

Limits are those of setrlimit(2). Those of memory and files hold for the life of the process, for all
it starts, too. The limit of CPU time is counted anew for each job, as a process runs many. A process
could not raise a hard limit again, so that of a job is soft: a task can catch its signal, or raise
it, up to a hard one for the life of the process, LIFE times as much. Before that is short, the
process is replaced.
"""

from __future__ import annotations

import errno
import math
import os
import resource
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
from headway.core.errors import ConfigError

if TYPE_CHECKING:
    # A worker process needs no settings.
    from headway.core.config import Config

# The store of all nodes with its password, and a token of the client. Neither is for a process that is confined to
# a user.
SECRETS = frozenset({"HEADWAY_ENGINE", "HEADWAY_TOKEN"})


# What Python says if the system starts no thread.
NO_THREAD = "can't start new thread"
# The CPU time that a process may take in its life, in times of what a job may take.
LIFE = 10
# By how much the kernel may count more CPU time than it tells. For a limit it counts by the tick of its timer: 7% more
# were measured on a busy machine.
TICKS = 1.1


class Confinement(msgspec.Struct, frozen=True):
    """The bounds of a worker process. 0: no limit."""

    # Empty: the user of the server.
    user: str = ""
    uid: int = 0
    gid: int = 0
    home: str = ""
    memory_bytes: int = 0
    # For one job.
    cpu_s: int = 0
    files: int = 0
    # Whether a crash may leave a core dump.
    core: bool = False

    @classmethod
    def of(cls, config: Config) -> Confinement:
        """Return the confinement that the settings ask for. Raises ConfigError if it cannot be had here."""
        limits, group = config.process_limits, config.processes_as.group
        for name, limit, asked in (
            ("memory", resource.RLIMIT_AS, limits.memory),
            ("cpu", resource.RLIMIT_CPU, limits.cpu),
            ("files", resource.RLIMIT_NOFILE, limits.files),
        ):
            hard = resource.getrlimit(limit)[1]
            if hard != resource.RLIM_INFINITY and asked > hard and os.geteuid():
                raise ConfigError(
                    f"process_limits.{name}: {asked} is above the limit of the server itself, {hard}: "
                    "raise that one (ulimit -H), or lower the setting"
                )
        free = cls(memory_bytes=limits.memory, cpu_s=limits.cpu, files=limits.files, core=limits.core)
        if config.processes_as.user is not None:
            return free.as_user(config.processes_as.user, group)
        if group is not None:
            raise ConfigError("processes_as.group: there is no user beside it: set processes_as.user, too")
        return free

    def as_user(self, user: str, group: str | None) -> Confinement:
        """Return the same for a user and a group of the system. Raises ConfigError."""
        # 1 ms, and few need them.
        import grp
        import pwd

        if os.geteuid():
            raise ConfigError(
                "processes_as.user: only root can run processes as another user: start the server as root, or leave "
                "the setting out"
            )
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            raise ConfigError(f"processes_as.user: this system has no user {user!r}: name one of /etc/passwd") from None
        try:
            gid = entry.pw_gid if group is None else grp.getgrnam(group).gr_gid
        except KeyError:
            raise ConfigError(
                f"processes_as.group: this system has no group {group!r}: name one of /etc/group"
            ) from None
        if not entry.pw_uid:
            raise ConfigError(f"processes_as.user: {user!r} may do all that the server may: name another user")
        return msgspec.structs.replace(self, user=user, uid=entry.pw_uid, gid=gid, home=entry.pw_dir)

    def environment(self, server: Mapping[str, str]) -> dict[str, str] | None:
        """Return the environment that a process begins with, of that of the server. None: the same."""
        if not self.user:
            return None
        # A variable of a setting may be in small letters.
        return {name: value for name, value in server.items() if name.upper() not in SECRETS}

    def enter(self) -> None:
        """Confine this process, for good. Raises ConfigError if the system refuses it."""
        if not self.core:
            _limit("core", resource.RLIMIT_CORE, 0)
        if self.memory_bytes:
            _limit("memory", resource.RLIMIT_AS, self.memory_bytes)
        if self.files:
            _limit("files", resource.RLIMIT_NOFILE, self.files)
        if self.cpu_s:
            hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
            life = math.ceil(_taken_s()) + LIFE * self.cpu_s
            _limit("cpu", resource.RLIMIT_CPU, life if hard == resource.RLIM_INFINITY else min(life, hard))
        if self.user:
            try:
                os.setgroups([])
                os.setresgid(self.gid, self.gid, self.gid)
                os.setresuid(self.uid, self.uid, self.uid)
            except OSError as error:
                raise ConfigError(f"processes_as.user: {self.user!r} cannot be had here: {error.strerror}") from None
            os.environ.update(HOME=self.home, USER=self.user, LOGNAME=self.user)

    def blamed(self, error: BaseException) -> str:
        """Return what to do about a limit that may have led to ``error`` while this process started. Empty: none."""
        met: BaseException | None = error
        while met is not None:
            # A thread that cannot be started is a RuntimeError. With a limit its stack found no memory.
            short = isinstance(met, MemoryError) or str(met) == NO_THREAD or getattr(met, "errno", 0) == errno.ENOMEM
            if self.memory_bytes and short:
                return f": process_limits.memory: {self.memory_bytes} bytes are too few for a worker process. Raise it"
            if self.files and getattr(met, "errno", 0) == errno.EMFILE:
                return f": process_limits.files: {self.files} are too few for a worker process. Raise it"
            met = met.__cause__ or met.__context__
        return ""

    def begin_job(self) -> None:
        """Give this process CPU time for one job. The kernel ends it by SIGXCPU after that."""
        if self.cpu_s:
            _limit_cpu(math.ceil(_taken_s() + self.cpu_s))

    def end_job(self) -> bool:
        """Let this process run freely between two jobs. Return whether its life is too short for another one."""
        if not self.cpu_s:
            return False
        _limit_cpu(resource.RLIM_INFINITY)
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        return hard != resource.RLIM_INFINITY and _taken_s() + self.cpu_s > hard


def _taken_s() -> float:
    """Return the CPU time that this process has taken, as the kernel may count it."""
    return TICKS * time.process_time()


def _limit(name: str, limit: int, most: int) -> None:
    try:
        resource.setrlimit(limit, (most, most))
    except (OSError, ValueError) as error:
        raise ConfigError(f"process_limits.{name}: {most} cannot be had here: {error}") from None


def _limit_cpu(seconds: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    free = resource.RLIM_INFINITY
    soft = hard if seconds == free else seconds if hard == free else min(seconds, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
