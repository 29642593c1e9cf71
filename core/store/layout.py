"""``hw:meta``: what all nodes of a store have to agree on, written once.

A store that was imported has the salts and numbers of the engine that its jobs come from, so that
their ids stay valid (core/ids.py).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from headway.core.errors import ConfigError
from headway.core.ids import Ids, Salts
from headway.core.link.address import Address

# Of the keys, see docs/adr/0026. Another version of Headway may know another one.
LAYOUT = 1

# The code of the error of a store about a key that is no hash.
WRONG_TYPE = "WRONGTYPE"

_salts = msgspec.json.Decoder(list[tuple[int, bytes]]).decode


class Layout(NamedTuple):
    """The content of ``hw:meta``."""

    secret: bytes
    partitions: int
    salts: Salts = ()
    # Runs that are unknown here may have given numbers below this.
    since: int = 0

    @classmethod
    def read(cls, fields: Mapping[bytes, bytes], address: Address) -> Layout:
        """Read the hash of the store at ``address``. Raises ConfigError if it is of another version."""
        try:
            layout = int(fields.get(b"version", 0))
            if layout == LAYOUT:
                return cls(
                    fields[b"secret"],
                    int(fields[b"partitions"]),
                    _salts(fields.get(b"salts", b"[]")),
                    int(fields.get(b"since", 0)),
                )
        except (KeyError, ValueError, msgspec.DecodeError) as error:
            raise ConfigError(
                f"engine: hw:meta of {address} is damaged ({error}). Put back a backup of the store"
            ) from None
        raise ConfigError(
            f"engine: the keys of {address} have layout {layout}, and this version of Headway knows layout "
            f"{LAYOUT}. Start the version that wrote them, or name another database"
        )

    def fields(self) -> dict[bytes, bytes]:
        """Return the hash."""
        fields = {
            b"version": b"%d" % LAYOUT,
            b"secret": self.secret,
            b"partitions": b"%d" % self.partitions,
            b"created": b"%d" % time.time(),
        }
        if self.salts:
            fields |= {b"salts": msgspec.json.encode(list(self.salts)), b"since": b"%d" % self.since}
        return fields

    def ids(self) -> Ids:
        """Return the ids of this store."""
        return Ids(self.secret, self.salts, self.since)


def foreign(address: Address) -> ConfigError:
    """Return the error for a ``hw:meta`` that is no hash, so none of Headway's."""
    return ConfigError(
        f"engine: hw:meta of {address} is not a key of Headway, which has a hash there. Name another database, or "
        "delete the key if nobody needs it"
    )
