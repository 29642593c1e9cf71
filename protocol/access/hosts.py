"""The names under which a server may be asked: a guard against DNS rebinding.

A page of any site can have its own name lead to 127.0.0.1, and then read a server there as if it were its
own: the browser sees one origin. The server sees the name of that site in ``Host``. So a name that nobody has
given is refused. An address is no name: a page of it comes from that address.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

from headway.core.errors import ConfigError
from headway.protocol.http.problems import Refusal

ANY = "*"
LOOPBACK = frozenset({"localhost"})
# Letters, digits and hyphens, and the underscores that some use. A name of another alphabet comes as ``xn--…``.
_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?")
# Names that were found to be allowed. A client chooses what it sends.
KNOWN_MOST = 256


class Hosts:
    """The names of the setting ``http.hosts``, loopback's, and all addresses. ``any_name``: all names."""

    def __init__(self, names: tuple[str, ...], *, any_name: bool = False) -> None:
        for name in names:
            if name != ANY and not _NAME.fullmatch(name) and not _is_address(name.strip("[]")):
                raise ConfigError(
                    f"http.hosts: {name!r} is no name of a host, such as jobs.example.com, or * for all; leave out the "
                    "port"
                )
        self._any = any_name or ANY in names
        self._names = LOOPBACK | {_bare(name) for name in names}
        self._known: set[bytes] = set()

    def check(self, host: bytes | None) -> None:
        """Raise Refusal if a request is for another name. ``host`` is its Host, which has a valid form."""
        if self._any or not host or host in self._known:
            return
        name = host.decode("latin-1")
        name = name[1 : name.find("]")] if name.startswith("[") else _bare(name.partition(":")[0])
        if name not in self._names and not _is_address(name):
            raise Refusal("host", f"this server has no name {name!r} in its setting http.hosts")
        if len(self._known) < KNOWN_MOST:
            self._known.add(host)


def _bare(name: str) -> str:
    """Return a name in small letters, without the dot at the end that says that it is whole."""
    return name.lower().removesuffix(".")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
