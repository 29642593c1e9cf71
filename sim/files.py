"""How many files, and so connections, this process may open."""

from __future__ import annotations

import resource

from headway.sim.settings import SettingsError

# Files besides connections.
SPARE = 32


def allow(connections: int) -> None:
    """Raise the soft limit as far as needed. Raises SettingsError if the hard limit is too low."""
    needed = connections + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SettingsError(_too_low(connections, needed, hard))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (OSError, ValueError):  # macOS has a further limit, kern.maxfilesperproc
        raise SettingsError(_too_low(connections, needed, soft)) from None


def _too_low(connections: int, needed: int, allowed: int) -> str:
    return (
        f"{connections} connections need {needed} open files, and {allowed} are allowed: raise the limit "
        f"(ulimit -Hn {needed}), or share connections (--connections {max(allowed - SPARE, 1)})"
    )
