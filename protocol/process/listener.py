"""The socket that the server listens on: passed by systemd, or its own."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import socket
import stat
from typing import NamedTuple
from urllib.parse import quote

from headway.core.config import Config
from headway.core.errors import ConfigError

log = logging.getLogger(__name__)

# Most descriptors to look at if the system does not list them.
FILES_MOST = 1 << 16


# Where a socket listens: its port, or the path of a Unix socket.
SocketName = int | str


class Listener(NamedTuple):
    """A bound socket. ``passed``: systemd has passed it, so it may have any address."""

    socket: socket.socket
    passed: bool

    @property
    def place(self) -> SocketName:
        """Return where it listens."""
        return _place(self.socket)

    @property
    def host(self) -> str | None:
        """Return the address at which it listens, None for a Unix socket."""
        return None if self.socket.family == socket.AF_UNIX else self.socket.getsockname()[0]

    def url(self, scheme: str) -> str:
        """Return the URL at which it is reached."""
        return url_of(scheme, self.host, self.place)

    def close(self) -> None:
        """Close it for good. The file of a Unix socket goes, unless it is systemd's."""
        if self.socket.fileno() < 0:
            return
        place = self.place
        self.socket.close()
        if isinstance(place, str) and not self.passed:
            with contextlib.suppress(OSError):
                _remove_stale(place)


def open_listener(
    config: Config, passed: socket.socket | None, *, shared: bool = False, place: SocketName | None = None
) -> Listener:
    """Return ``passed``, on which systemd listens for us, or else a socket of our own.

    A ``shared`` one has its port with others of ours, at ``place`` if there is one already. Raises ConfigError
    if none can be had.
    """
    if passed is not None:
        return Listener(passed, True)
    path = config.server.socket
    if path is not None:
        return Listener(_bound_to_file(config, os.path.abspath(path)), False)
    port = place if isinstance(place, int) else config.server.port
    if shared and place is None and port:
        # A port that may be shared would be shared with any other server of this user.
        _bound(config, port, shared=False).close()
    return Listener(_bound(config, port, shared=shared), False)


def look(config: Config) -> None:
    """Raise ConfigError if ``open_listener`` could not get a socket of its own. Nothing is changed."""
    path = config.server.socket
    if path is None:
        _bound(config, config.server.port, shared=False).close()
        return
    try:
        _look_at_file(os.path.abspath(path))
    except OSError as error:
        raise _unavailable(path, error) from None


def warn_of_place(host: str | None, where: SocketName, config: Config) -> None:
    """Log a warning if a socket that a deploy keeps, at ``host`` and ``where``, is not where ``config`` says."""
    server = config.server
    url = url_of(server.scheme, host, where)
    if server.socket is not None and os.path.abspath(server.socket) != where:
        text = "server.socket is %s now, but a deploy keeps its socket: restart the server to leave %s"
        log.warning(text, server.socket, url)
    elif server.socket is None and (host is None or server.port not in (0, where)):
        text = "server.port is %d now, but a deploy keeps its socket: restart the server to leave %s"
        log.warning(text, server.port, url)


def url_of(scheme: str, host: str | None, where: SocketName) -> str:
    """Return the URL of a socket. That of a Unix socket is ``http+unix://%2Frun%2Fheadway.sock``."""
    if host is None:
        return f"{scheme}+unix://{quote(str(where), safe='')}"
    return f"{scheme}://[{host}]:{where}" if ":" in host else f"{scheme}://{host}:{where}"


def close_all_at(place: SocketName) -> None:
    """Close this process's sockets at ``place``: in a forked child, its copies of ours.

    It looks at all descriptors. So it finds a socket that was accepted a moment ago, or is about to
    be closed.
    """
    try:
        names = os.listdir("/dev/fd")
    except OSError:
        names = list(map(str, range(3, min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], FILES_MOST))))
    for fd in map(int, names):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                _close_at(place, socket.socket(fileno=fd))


def _close_at(place: SocketName, found: socket.socket) -> None:
    """Close ``found`` if it is a stream socket at ``place``, else leave it alone."""
    try:
        stream = found.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX) and found.type == socket.SOCK_STREAM
        if stream and _place(found) == place:
            found.close()
    finally:
        if found.fileno() >= 0:
            found.detach()


def _place(found: socket.socket) -> SocketName:
    name = found.getsockname()
    if isinstance(name, tuple):
        return int(name[1])
    # An abstract address is bytes (unix(7)).
    return os.fsdecode(name)


def _bound(config: Config, port: int, *, shared: bool) -> socket.socket:
    host = config.server.host
    where = f"server.host {host!r}, server.port {port}"
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"cannot listen on {where}: {getattr(error, 'strerror', None) or error}") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise ConfigError(f"cannot listen on {where}: {error.strerror or error}") from None
    return bound


def _bound_to_file(config: Config, path: str) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        bound.bind(path)
        # Until it listens, nobody can connect.
        os.chmod(path, int(config.server.socket_mode, 8))
        bound.listen(config.server.backlog)
    except OSError as error:
        bound.close()
        raise _unavailable(path, error) from None
    return bound


def _unavailable(path: str, error: OSError) -> ConfigError:
    return ConfigError(f"cannot listen on server.socket {path!r}: {error.strerror or error}")


def _look_at_file(path: str) -> None:
    """Raise OSError if no Unix socket can be made at ``path``."""
    _is_stale(path)
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise OSError(errno.ENOENT, f"{folder} is no folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, contextlib.suppress(FileNotFoundError):
        probe.setblocking(False)
        # A path that is too long for a name of a socket is refused here as well.
        with contextlib.suppress(ConnectionRefusedError):
            probe.connect(path)


def _remove_stale(path: str) -> None:
    """Remove a Unix socket on which nobody listens. Raises OSError if there is something else."""
    if _is_stale(path):
        os.unlink(path)


def _is_stale(path: str) -> bool:
    """Whether there is a Unix socket on which nobody listens. Raises OSError if there is something else."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "there is a file that is no socket: remove it, or name another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # The queue of a server may be full.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, "another server listens there: stop it, or name another path")
