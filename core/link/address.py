"""The URL of a store: where it is, how to speak to it, and as whom.

``valkey://[user:password@]host[:port][,host[:port]…][/database][?options]``. ``redis://`` is the
same, ``rediss://`` and ``valkeys://`` are with TLS. ``unix:///path`` is a socket of this machine.
The password stands in no message, no log and no ``repr``: ``str(address)`` is the URL without it.

Of several hosts of a plain address the first that is a primary counts. In a cluster and with
Sentinel they are those that are asked for the way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, unquote

from headway.core.errors import ConfigError

SCHEMES = {"valkey": False, "redis": False, "valkeys": True, "rediss": True, "unix": False}
PORT, SENTINEL_PORT = 6379, 26379
# Partitions of a cluster. One server has one.
PARTITIONS, PARTITIONS_MOST = 16, 1024
OPTIONS = "sentinel, cluster, partitions, ca, certificate, key, db"
FORM = "valkey://user:password@host:6379/0"

Host = tuple[str, int]

# RFC 3986 appendix B, without white space. `urlsplit` is stricter in each new Python: it refuses hosts
# behind or before an IPv6 address.
_url = re.compile(r"([^:/?#\s]*):(?://([^/?#\s]*))?([^?#\s]*)(?:\?([^#\s]*))?(#\S*)?").fullmatch


@dataclass(frozen=True, slots=True)
class Address:
    """A store. Of ``hosts`` and ``path``, that of a socket, one is there."""

    hosts: tuple[Host, ...] = ()
    path: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    database: int = 0
    tls: bool = False
    # The name of the primary with Sentinel.
    sentinel: str = ""
    cluster: bool = False
    # The partitions of a store that has none yet.
    partitions: int = 1
    # Files in PEM: who signed the store's certificate, and our own certificate with its key.
    ca: str = ""
    certificate: str = ""
    key: str = ""

    @classmethod
    def of(cls, url: str) -> Address:
        """Read the setting ``engine``. Raises ConfigError, which shows nothing of a password."""
        parts = _url(url)
        if not parts:
            raise _fault("it is no URL")
        scheme, authority, path, query, fragment = (part or "" for part in parts.groups())
        try:
            options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
        except ValueError:
            raise _fault("it is no URL") from None
        if scheme not in SCHEMES:
            raise _fault(f"a store begins with {', '.join(f'{name}://' for name in SCHEMES)}")
        if fragment:
            raise _fault('a "#" in a password is written %23')
        secret, _, names = authority.rpartition("@")
        user, _, password = secret.partition(":")
        if options.get("sentinel") == "":
            raise _fault("sentinel is the name of the primary: ?sentinel=NAME")
        address = cls(
            hosts=_hosts(scheme, names, SENTINEL_PORT if "sentinel" in options else PORT),
            path=_socket(scheme, names, path),
            user=unquote(user),
            password=unquote(password),
            tls=SCHEMES[scheme],
            sentinel=options.pop("sentinel", ""),
            cluster=_switch(options.pop("cluster", "false")),
            ca=options.pop("ca", ""),
            certificate=options.pop("certificate", ""),
            key=options.pop("key", ""),
        )
        database = options.pop("db", "") or ("" if address.path else path.strip("/"))
        many = PARTITIONS if address.cluster else 1
        partitions = _number("partitions", options.pop("partitions", ""), many, PARTITIONS_MOST)
        address = replace(address, database=_number("the database", database, 0, 2**31), partitions=partitions)
        if options:
            raise _fault(f"there is no option {min(options)!r}. There are {OPTIONS}")
        address._check()
        return address

    def _check(self) -> None:
        if self.cluster and self.sentinel:
            raise _fault("a store has a cluster or Sentinel, not both")
        if self.cluster and self.database:
            raise _fault("a cluster has only database 0")
        if self.path and (self.cluster or self.sentinel):
            raise _fault("a socket leads to one server, without a cluster and Sentinel")
        if self.partitions < 1:
            raise _fault("partitions is at least 1")
        if not self.tls and (self.ca or self.certificate or self.key):
            raise _fault("certificates are for TLS: use rediss://")
        if bool(self.certificate) != bool(self.key):
            raise _fault("certificate and key go together")

    def at(self, *hosts: Host) -> Address:
        """Return the same for the one server at ``hosts``, which may be one of a cluster."""
        return replace(self, hosts=hosts, sentinel="")

    def __str__(self) -> str:
        """Return the URL without the password."""
        secret = f"{self.user}:***@" if self.password else f"{self.user}@" if self.user else ""
        if self.path:
            return f"unix://{secret}{self.path}" + (f"?db={self.database}" if self.database else "")
        hosts = ",".join(map(host_text, self.hosts))
        options = f"?sentinel={self.sentinel}" if self.sentinel else "?cluster=true" if self.cluster else ""
        return f"{'rediss' if self.tls else 'valkey'}://{secret}{hosts}/{self.database}{options}"


def host_text(host: Host) -> str:
    """Return a host as a URL has it."""
    name, port = host
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def host_of(text: str, port: int) -> Host:
    """Read ``name``, ``name:port`` or ``[IPv6]:port``. Raises ConfigError."""
    if text.startswith("["):
        name, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise _fault("an IPv6 address stands in [ ]")
        number = rest[1:]
    else:
        name, _, number = text.partition(":")
        if ":" in number:
            raise _fault("an IPv6 address stands in [ ], and of a password @ is written %40 and : %3A")
    if not name:
        raise _fault("a host has no name")
    return name, _number("a port", number, port, 65535)


def _socket(scheme: str, names: str, path: str) -> str:
    if scheme != "unix":
        return ""
    # ``unix://run/valkey.sock`` is a mistake for ``unix:///run/valkey.sock``.
    if names or len(path) < 2:
        raise _fault("a socket is written unix:///path/of/the/socket")
    return unquote(path)


def _hosts(scheme: str, names: str, port: int) -> tuple[Host, ...]:
    if scheme == "unix":
        return ()
    if not names:
        raise _fault("it has no host")
    return tuple(host_of(name, port) for name in names.split(","))


def _switch(text: str) -> bool:
    if text not in ("true", "false"):
        raise _fault("cluster is true or false")
    return text == "true"


def _number(what: str, text: str, default: int, most: int) -> int:
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and int(text) <= most):
        raise _fault(f"{what} is a whole number, at most {most}")
    return int(text)


def _fault(text: str) -> ConfigError:
    return ConfigError(f"engine: {text}. Its form is {FORM}, or null for an engine of this server alone")
