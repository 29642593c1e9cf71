"""``hw:meta``: what all nodes of a store have to agree on, written once.

A store that was imported has the salts and numbers of the engine that its jobs come from, so that
their ids stay valid (core/ids.py).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from headway.core.errors import ConfigError
from headway.core.ids import SECRET_BYTES, Ids, Salts

# Of the keys and their contents. A change that nodes of two versions could not share raises it.
VERSION = b"1"

_salts = msgspec.json.Decoder(list[tuple[int, bytes]]).decode


class Layout(NamedTuple):
    """The content of ``hw:meta``."""

    secret: bytes
    partitions: int
    salts: Salts = ()
    # Runs that are unknown here may have given numbers below this.
    since: int = 0

    @classmethod
    def new(cls, partitions: int) -> Layout:
        """Return what an empty store begins with."""
        return cls(secrets.token_bytes(SECRET_BYTES), partitions)

    @classmethod
    def read(cls, fields: Mapping[bytes, bytes]) -> Layout:
        """Read the hash. Raises ConfigError if it is of another version."""
        version = fields.get(b"version", b"none")
        if version != VERSION:
            raise ConfigError(
                f"engine: the keys hw:* are of version {version.decode(errors='replace')} and this program knows "
                f"{VERSION.decode()}. Start the program that wrote them, or name another database or server"
            )
        try:
            return cls(
                fields[b"secret"],
                int(fields[b"partitions"]),
                _salts(fields.get(b"salts", b"[]")),
                int(fields.get(b"since", 0)),
            )
        except (KeyError, ValueError, msgspec.DecodeError) as error:
            raise ConfigError(f"engine: hw:meta is damaged ({error}). Put back a backup of the store") from None

    def fields(self) -> dict[bytes, bytes]:
        """Return the hash."""
        fields = {
            b"version": VERSION,
            b"secret": self.secret,
            b"partitions": b"%d" % self.partitions,
            b"created": b"%d" % (time.time() * 1000),
        }
        if self.salts:
            fields |= {b"salts": msgspec.json.encode(list(self.salts)), b"since": b"%d" % self.since}
        return fields

    def ids(self) -> Ids:
        """Return the ids of this store."""
        return Ids(self.secret, self.salts, self.since)
