"""The first words on a connection: who we are, and what kind of store this is.

``greet`` is for each connection. All of it leaves in one write, so it takes one way there and back.
``inspect`` is for the first contact: a store that would lose jobs is refused, in one line that says
what mends it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from headway.core.durability import Durability
from headway.core.errors import ConfigError
from headway.core.link.address import Address
from headway.core.link.reply_error import AWAY, LinkLostError, NoStoreError, ReplyError, StoreError
from headway.core.link.wire import Wire, pack

log = logging.getLogger(__name__)

# The oldest that has all we use: sharded messages, and scripts that may do what we do.
OLDEST = {"redis": (7, 0), "valkey": (7, 2)}
POLICY = "noeviction"


class NotPrimaryError(StoreError):
    """The store is a replica, which takes no changes."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a store says of itself."""

    product: str
    version: str
    # Milliseconds of its clock.
    time_ms: int
    # Of its process. Empty: it does not tell.
    run_id: str


async def greet(wire: Wire, address: Address, name: str) -> Greeting:
    """Say hello. Raises ConfigError for a store that can never do, StoreError for one that cannot yet."""
    hello: list[str | int] = ["HELLO", 3]
    if address.password:
        hello += ["AUTH", address.user or "default", address.password]
    hello += ["SETNAME", name]
    words: list[Any] = [hello, ["SELECT", address.database]]
    # The last one tells whether it serves: the others are answered by a store that loads its data.
    words += [
        ["INFO", "server"],
        ["CLIENT", "TRACKING", "ON", "OPTIN"],
        ["CLIENT", "CACHING", "YES"],
        ["TIME"],
        ["EXISTS", "hw:meta"],
    ]
    if address.cluster or not address.database:
        words.pop(1)
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[Any]] = [loop.create_future() for _ in words]
    for one, future in zip(words, futures, strict=True):
        wire.send(pack(tuple(one)), future)
    replies: list[Any] = await asyncio.gather(*futures, return_exceptions=True)
    if isinstance(replies[0], dict):
        # First of all, since another kind of server refuses the others.
        _check_kind(replies[0], address)
    facts = replies.pop(-5)
    for reply in replies:
        if isinstance(reply, BaseException):
            # A member of a cluster need not have this key.
            if reply is replies[-1] and isinstance(reply, ReplyError) and reply.code == "MOVED":
                continue
            if isinstance(wire.why, NoStoreError):
                raise ConfigError(f"engine: {address} is no store: {wire.why}")
            raise _meaning(reply, address)
    product, version = _product(replies[0])
    seconds, micros = replies[-2]
    run_id = "" if isinstance(facts, BaseException) else fact_of(facts, "run_id")
    return Greeting(product, version, int(seconds) * 1000 + int(micros) // 1000, run_id)


def _product(facts: dict[bytes, Any]) -> tuple[str, str]:
    return facts.get(b"server", b"redis").decode(), facts.get(b"version", b"0").decode()


def _check_kind(facts: dict[bytes, Any], address: Address) -> None:
    name, version = _product(facts)
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST.get(name, (7, 0)):
        raise ConfigError(f"engine: {address} is {name} {version}. Headway needs Redis 7.0 or Valkey 7.2, or newer")
    mode = facts.get(b"mode")
    if mode == b"sentinel":
        raise ConfigError(f"engine: {address} is a Sentinel. Add ?sentinel=NAME with the name of its primary")
    if (mode == b"cluster") != address.cluster:
        way = "is no cluster. Leave cluster=true out" if address.cluster else "is a cluster. Add ?cluster=true"
        raise ConfigError(f"engine: {address} {way}")
    if facts.get(b"role", b"master") != b"master":
        raise NotPrimaryError(no_primary(address))


def no_primary(address: Address) -> str:
    """Return what is to be done about a replica."""
    return f"{address} is a read-only replica. Name its primary, or use ?sentinel=NAME"


def _meaning(error: BaseException, address: Address) -> BaseException:
    """Return the error of a greeting that a person reads."""
    if isinstance(error, LinkLostError):
        hint = "" if address.tls else ", as a port with TLS does (rediss://)"
        return ConnectionError(f"{address} ended the connection{hint}")
    if not isinstance(error, ReplyError) or error.code in AWAY:
        return error
    if told := meaning_of(error.text, address):
        return ConfigError(f"engine: {told}")
    return error


def meaning_of(text: str, address: Address) -> str:
    """Return what a refusal of the store says to a person. Empty: it says that itself."""
    form = "valkey://user:password@host:6379/0 has one"
    # redis-py leaves the code out.
    if text.startswith(("NOAUTH", "HELLO must be called with the client already authenticated")):
        return f"{address} wants a password: {form}"
    if "without any password configured" in text:
        return f"{address} has no password: {form}"
    if text.startswith(("WRONGPASS", "invalid username-password pair")):
        return f"{address} refuses the user or the password. In a URL @ is %40, : is %3A, / is %2F"
    if "no permissions" in text.lower():
        return f"{address}: {text}. docs/cluster.md has the ACL that Headway needs"
    if "in protected mode" in text:
        # Its own text is a page.
        return f"{address} is in protected mode: give it a password, or a bind address"
    if "DB index" in text:
        return f"{address} has no database {address.database}. See its setting databases"
    if "SELECT is not allowed" in text:
        return f"{address} is a cluster. Add ?cluster=true"
    if "unknown command" in text or text.startswith("NOPROTO"):
        return f"{address} is too old. Headway needs Redis 7.0 or Valkey 7.2, or newer"
    return ""


async def inspect(call: Callable[..., asyncio.Future[Any]], address: Address) -> Durability:
    """Return the promise of a store. Raises ConfigError if it may evict jobs."""
    calls = call("INFO", "memory"), call("INFO", "persistence"), call("CONFIG", "GET", "appendfsync")
    replies: list[Any] = [*await asyncio.gather(*calls, return_exceptions=True)]
    for reply in replies:
        if isinstance(reply, LinkLostError):
            raise reply
    memory, persistence, config = replies
    if isinstance(memory, BaseException) or isinstance(persistence, BaseException):
        log.warning("%s does not tell its maxmemory-policy (%s): make sure that it is noeviction", address, memory)
        return "process"
    policy = fact_of(memory, "maxmemory_policy")
    forbidden = isinstance(config, BaseException)
    if policy != POLICY:
        mend = "in the parameters of the service" if forbidden else "CONFIG SET maxmemory-policy noeviction"
        raise ConfigError(
            f"engine: {address} has maxmemory-policy {policy}, so it would evict jobs. Set it to noeviction: {mend}"
        )
    if forbidden:
        log.warning("%s forbids CONFIG (%s): maxmemory-policy is known by INFO, appendfsync is not", address, config)
        return "process"
    always = dict(config).get(b"appendfsync") == b"always"
    return "disk" if always and fact_of(persistence, "aof_enabled") == "1" else "process"


def fact_of(info: Any, name: str) -> str:
    """Return a fact of INFO."""
    found = re.search(rf"^{name}:(.*?)\r?$", info.decode(), re.MULTILINE)
    return found[1] if found else ""
