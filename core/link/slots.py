"""The slots of a cluster: each key has one of 16,384, and each slot a primary.

The slot is the CRC-16 of the key (XMODEM, polynomial 0x1021), or of the part in ``{}`` if it has
one. All keys of a partition have its number there, so they are in one slot.
"""

from __future__ import annotations

from binascii import crc_hqx
from typing import Any

from headway.core.link.address import Host

SLOTS = 16384


def slot_of(key: bytes) -> int:
    """Return the slot of a key or of a channel."""
    begin = key.find(b"{")
    if begin >= 0:
        end = key.find(b"}", begin)
        if end > begin + 1:
            key = key[begin + 1 : end]
    return crc_hqx(key, 0) % SLOTS


def primaries(reply: list[Any], asked: Host) -> dict[Host, list[range]]:
    """Return the primaries with their slots, of a reply to CLUSTER SLOTS that ``asked`` gave."""
    found: dict[Host, list[range]] = {}
    for begin, end, primary, *_ in reply:
        name = (primary[0] or b"").decode()
        # A node that does not know its own name leaves it out; "?" is a name that nobody has set.
        host = (asked[0] if name in ("", "?") else name, int(primary[1]))
        found.setdefault(host, []).append(range(begin, end + 1))
    return found
