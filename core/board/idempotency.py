"""Idempotency keys: a submission repeated under the same key is the same job, not another one.

A key is known for ``seconds`` after its first use, and while it is among the last ``most``. With a
journal it outlives the process. A key repeated with other content is refused, since one of the two
is a mistake (draft-ietf-httpapi-idempotency-key-header).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
from headway.core.board.oldest import Oldest


class Keyed(msgspec.Struct, frozen=True, gc=False):
    """The job that a key stands for, or the first job of its batch.

    ``submitted`` is of time.monotonic.
    """

    sequence: int
    digest: bytes
    submitted: float
    # How many jobs the batch has, 0 for a job alone.
    batch: int = 0


class Keys:
    """The keys that are known, the oldest first."""

    def __init__(self, seconds: float, most: int) -> None:
        self.seconds = seconds
        self.most = most
        self._keyed: dict[str, Keyed] = {}
        # Keys of jobs up to this number are no longer among the last ``most``.
        self.given_up = 0
        self._oldest = Oldest(self._keyed)

    def __len__(self) -> int:
        return len(self._keyed)

    def items(self) -> Iterable[tuple[str, Keyed]]:
        """Return (key, its job) of all, the oldest first."""
        return self._keyed.items()

    def get(self, text: str, now: float) -> Keyed | None:
        """Return the job of a key, None if the key is not known or has expired."""
        keyed = self._keyed.get(text)
        return None if keyed is None or now - keyed.submitted >= self.seconds else keyed

    def put(self, text: str, keyed: Keyed) -> None:
        """Add a key as the newest. The oldest is given up if there are too many."""
        if self._keyed.pop(text, None) is not None:
            self._oldest.look_again()
        self._keyed[text] = keyed
        if len(self._keyed) > self.most:
            oldest = self._oldest.first()
            assert oldest is not None
            self.given_up = self._keyed.pop(oldest).sequence
            self._oldest.taken_out()

    def forget(self, text: str) -> None:
        """Remove a key: its job was not accepted after all."""
        self._oldest.look_again()
        self._keyed.pop(text, None)

    def trim(self, now: float) -> Iterator[None]:
        """Remove the keys that are too old, one a step."""
        while (text := self._oldest.first()) is not None:
            if now - self._keyed[text].submitted < self.seconds:
                return
            del self._keyed[text]
            self._oldest.taken_out()
            yield
