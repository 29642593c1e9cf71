"""Sentinels know which server is the primary of a name."""

from __future__ import annotations

from headway.core.errors import ConfigError
from headway.core.link.address import Address, Host
from headway.core.link.dial import Dial
from headway.core.link.reply_error import ReplyError, StoreError


async def primary_of(dial: Dial) -> Host:
    """Return the primary. The first Sentinel that answers is believed: its server says whether it is one.

    Raises ConfigError if no Sentinel knows the name, OSError or StoreError if none answers.
    """
    address: Address = dial.address
    problem: Exception | None = None
    for host in address.hosts:
        try:
            found = await dial.ask(host, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", address.sentinel)
        except ReplyError as error:
            problem = ConfigError(f"engine: {address} is no Sentinel: {error}")
        except (OSError, StoreError, ConfigError) as error:
            problem = problem or error
        else:
            if found:
                return found[0].decode(), int(found[1])
            problem = ConfigError(f"engine: no Sentinel of {address} knows the name {address.sentinel!r}")
    assert problem is not None
    raise problem
