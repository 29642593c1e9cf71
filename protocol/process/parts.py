"""The parts of a server with gateways: a supervisor, an engine without HTTP, and gateways.

All are the same command. A variable says which part a process is, and which sockets it has inherited. It is taken
out of the environment, so that no program that a task starts takes itself for a part.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping, MutableMapping
from typing import Literal

import msgspec
from headway.core.config import Config

# Not HEADWAY_…, which would be a setting.
VARIABLE = "_HEADWAY_PART"
# What the engine of gateways says of itself where a node says what it is doing.
ENGINE_DOING = "the engine of %d gateways"
# What a part tells the supervisor, in the manner of sd_notify(3): that gateways may come, which program it is, that a
# gateway lets clients in, and that the engine ends of itself. Its exit code alone may be that of a task.
OPEN, PROGRAM, SERVING = "X_HEADWAY_OPEN", "X_HEADWAY_PROGRAM", "X_HEADWAY_SERVING"
ENDS = "X_HEADWAY_ENDS"


def gateways_of(config: Config) -> int:
    """Return how many gateways there are: with ``auto`` one for each core but one."""
    if config.server.gateways == "auto":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(cores - 1, 1)
    return config.server.gateways


class ServerPart(msgspec.Struct, frozen=True):
    """One part. ``fd`` is the socket on which it listens: of an engine for gateways, of a gateway for clients."""

    what: Literal["engine", "gateway"]
    fd: int
    # The Unix socket of the engine.
    path: str
    # Of a gateway, from 0 on, and how many there are.
    number: int
    count: int
    # Where clients are let in: the address, None for a Unix socket, and the port or the path. Whether systemd has
    # passed the socket.
    host: str | None
    place: int | str
    passed: bool
    # The supervisor.
    parent: int
    # The file of the rates of all gateways.
    rates_fd: int = -1
    # The settings with which the engine serves, -1 for those of the file and the environment.
    settings_fd: int = -1
    # What is left of an engine that has crashed: the files of its rows, and of what they are read by. -1: nothing.
    rows_fd: int = -1
    left_fd: int = -1

    @property
    def follows(self) -> bool:
        """Whether it is started again. An engine has its signals blocked then, until it can take them."""
        return self.settings_fd >= 0

    def environment(self) -> dict[str, str]:
        """Return the variable that says so."""
        return {VARIABLE: msgspec.json.encode(self).decode()}

    def hand_on(self) -> dict[str, str]:
        """Have the next program of this process be the same part. Return the variable."""
        os.set_inheritable(self.fd, True)
        return msgspec.structs.replace(self, settings_fd=-1, rows_fd=-1, left_fd=-1).environment()

    def socket(self) -> socket.socket:
        """Return the socket on which it listens."""
        return socket.socket(fileno=os.dup(self.fd))

    def remove_folder(self) -> None:
        """Remove the folder of the sockets, which the supervisor has left."""
        shutil.rmtree(os.path.dirname(self.path), ignore_errors=True)

    @property
    def is_orphan(self) -> bool:
        """Whether the supervisor is gone."""
        return os.getppid() != self.parent


def settings_of(environment: Mapping[str, str]) -> Config | None:
    """Return the settings that a part is given, None if it has to read them.

    The file may have changed since the last deploy, and all parts go by the same.
    """
    text = environment.get(VARIABLE)
    fd = -1 if text is None else msgspec.json.decode(text, type=ServerPart).settings_fd
    return None if fd < 0 else msgspec.json.decode(os.pread(fd, os.fstat(fd).st_size, 0), type=Config)


def take(environment: MutableMapping[str, str]) -> ServerPart | None:
    """Return the part that this process is, None for a server without parts."""
    text = environment.pop(VARIABLE, None)
    if text is None:
        return None
    part = msgspec.json.decode(text, type=ServerPart)
    for fd in (part.fd, part.rates_fd, part.settings_fd, part.rows_fd, part.left_fd):
        if fd >= 0:
            os.set_inheritable(fd, False)
    return part


class Teller:
    """Tells the supervisor of ``part``."""

    def __init__(self, part: ServerPart) -> None:
        self._address = notify_path(os.path.dirname(part.path))

    def tell(self, name: str, value: str, fds: tuple[int, ...] = ()) -> None:
        """Tell the supervisor something, with files. Raises OSError if it is gone."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(self._address)
            if fds:
                socket.send_fds(sender, [f"{name}={value}".encode()], [*fds])
            else:
                sender.send(f"{name}={value}".encode())


def notify_path(folder: str) -> str:
    """Return the socket of the supervisor, for the messages of its parts."""
    return os.path.join(folder, "notify")
