"""How a call of the store can fail: the store refuses it, or the connection is lost.

A refusal begins with its code, a word in capitals. The codes below are those that are told apart.
"""

from __future__ import annotations

from typing import NoReturn

from headway.core.errors import EngineAwayError, EngineFullError

# The store is there and serves nobody for now: it loads its data, follows another one, cannot
# write its file, or its slots have no owner. Nothing was changed.
AWAY = frozenset(
    ("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "NOREPLICAS", "BUSY", "UNBLOCKED")
)
# It is not the right one, or not any more: look for it again.
NOT_PRIMARY = frozenset(("READONLY", "MASTERDOWN"))
# Who we are, or may do, is not right.
REFUSED = frozenset(("NOAUTH", "WRONGPASS", "NOPERM", "NOPROTO"))
# A script met a key whose slot is being moved. Its own code is ERR.
MOVING = "non local key"


class StoreError(Exception):
    """A call of the store failed."""


class NoStoreError(StoreError):
    """The other side does not speak the protocol of a store."""


class LinkLostError(StoreError):
    """The connection was lost. ``sent`` is whether the call may have been carried out."""

    def __init__(self, sent: bool) -> None:
        self.sent = sent
        super().__init__(f"the connection was lost {'after' if sent else 'before'} the call was sent")


class ReplyError(StoreError):
    """The store refused a call. ``code`` is the first word of its text."""

    def __init__(self, text: str) -> None:
        # The store repeats words of a command that it does not know, a password among them.
        text = text.partition(", with args beginning with")[0]
        self.text = text
        code = text.partition(" ")[0]
        self.code = "TRYAGAIN" if MOVING in text and code == "ERR" else code
        super().__init__(text)

    @property
    def place(self) -> tuple[int, str]:
        """Return slot and ``host:port`` of MOVED and ASK."""
        _, slot, host = self.text.split(" ")[:3]
        return int(slot), host


def raise_for_caller(error: StoreError) -> NoReturn:
    """Raise the error that a client sees: the store is away or full. Any other is a defect, and raised as it is."""
    if isinstance(error, LinkLostError) or (isinstance(error, ReplyError) and error.code in AWAY):
        raise EngineAwayError from error
    if isinstance(error, ReplyError) and error.code == "OOM":
        raise EngineFullError from error
    raise error
