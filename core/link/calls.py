"""The calls of a store, by whatever way they go."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from headway.core.link.script import Script
from headway.core.link.wire import Prompt, pack

Word = bytes | str | int | float


class Calls:
    """Calls to the place of some keys: the one server, or the primary of a slot.

    A reply raises ReplyError if the store refuses the call, and LinkLostError if it does not come.
    """

    @property
    def is_up(self) -> bool:
        """Whether calls can be sent."""
        raise NotImplementedError

    @property
    def why(self) -> str:
        """Why no calls can be sent. Empty while they can."""
        raise NotImplementedError

    def send(self, data: bytes, script: Script | None = None) -> asyncio.Future[Any]:
        """Send the bytes of a command at the end of this turn."""
        raise NotImplementedError

    def track(self, data: bytes, key: bytes) -> Prompt:
        """Send the bytes of a command that reads ``key``, and have ``on_invalid`` called when it changes.

        That may be before the callbacks of this future. So a cache is filled by its ``when_told``.
        """
        raise NotImplementedError

    def call(self, *words: Word) -> asyncio.Future[Any]:
        """Send a command."""
        return self.send(pack(words))

    def look(self, key: bytes, *words: Word) -> Prompt:
        """Read ``key`` by a command, as ``track`` says."""
        return self.track(pack(words), key)

    def read(self, key: bytes, *fields: bytes) -> Prompt:
        """Read fields of a hash, as ``track`` says."""
        return self.track(pack((b"HMGET", key, *fields)), key)

    def run(self, script: Script, keys: Sequence[bytes], *arguments: Word) -> asyncio.Future[Any]:
        """Run a script. A store that does not know it yet is given its text."""
        return self.send(pack((b"EVALSHA", script.digest, len(keys), *keys, *arguments)), script)

    @property
    def run_id(self) -> str:
        """The process of the server, as that names itself. Empty: it is not known."""
        raise NotImplementedError

    def subscribe(self, channel: bytes) -> asyncio.Future[Any]:
        """Get the messages of a channel of SPUBLISH, also over later connections.

        The reply comes when they begin. Raises ReplyError if it is forbidden.
        """
        raise NotImplementedError

    def unsubscribe(self, channel: bytes) -> None:
        """Get the messages of a channel no more."""
        raise NotImplementedError

    def server_ms(self) -> int:
        """Return the time of the store's clock, as well as it is known."""
        raise NotImplementedError

    def learn_time(self, server_ms: int) -> None:
        """Take the time that the store had a moment ago."""
        raise NotImplementedError
