"""Sockets and variables from systemd, and messages to it: sd_listen_fds(3) and sd_notify(3).

If systemd has not started us, none of the variables is set and all of this does nothing. The
variables are taken out of the environment, so that no program that a task starts takes them for its
own.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import MutableMapping

from headway.core.errors import ConfigError

log = logging.getLogger(__name__)

# The first descriptor that is passed (SD_LISTEN_FDS_START).
FIRST_FD = 3
SOCKETS = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
# The next program needs these as well. It has our process id.
LASTING = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


def activated(environment: MutableMapping[str, str], fd: int = FIRST_FD) -> socket.socket | None:
    """Return the socket that systemd listens on for us, None if there is none. ``fd`` is its descriptor.

    Raises ConfigError if there are several, or if it is not a stream socket that listens.
    """
    pid, count, _ = (environment.pop(name, "") for name in SOCKETS)
    if pid != str(os.getpid()):
        return None
    if count != "1":
        raise ConfigError(f"systemd passes {count} sockets: give headway.socket one ListenStream=")
    try:
        passed = socket.socket(fileno=fd)
    except OSError as error:
        raise ConfigError(f"LISTEN_FDS is set, but descriptor {fd} is no socket: {error.strerror}") from None
    passed.set_inheritable(False)
    families = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    stream = passed.family in families and passed.type == socket.SOCK_STREAM
    if not stream or not passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        passed.close()
        raise ConfigError("systemd passes a socket that is no stream or does not listen: ListenStream=, Accept=no")
    return passed


def address_of(notify_socket: str) -> str:
    """Return the address of a socket as systemd names it: a leading @ stands for the NUL of unix(7)."""
    return "\0" + notify_socket[1:] if notify_socket.startswith("@") else notify_socket


class Notifier:
    """Tells systemd the state of the service."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        # The variables that were taken out.
        self.environment = {name: environment.pop(name) for name in LASTING if name in environment}
        self._address = address_of(self.environment.get("NOTIFY_SOCKET", ""))
        self._watched = self.environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._watched &= self.environment.get("WATCHDOG_USEC", "").isdigit()

    def ready(self, status: str, told: str = "") -> None:
        """New jobs are wanted: it has started, has reloaded, or has given up reloading.

        ``told`` is for the supervisor of a server with gateways.
        """
        self._tell(f"READY=1\nSTATUS={status}" + (f"\nX_TOLD={told}" if told else ""))

    def reloading(self) -> None:
        """A deploy has begun. ``ready`` ends it."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}\nSTATUS=deploying")

    def stopping(self) -> None:
        """It is about to end."""
        self._tell("STOPPING=1\nSTATUS=draining")

    def alive(self) -> None:
        """The loop turns. To be called at least twice in WatchdogSec=."""
        if self._watched:
            self._tell("WATCHDOG=1")

    def _tell(self, state: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(state.encode(), self._address)
        except OSError as error:
            log.warning("cannot send %s to systemd: %s", state.partition("\n")[0], error)
