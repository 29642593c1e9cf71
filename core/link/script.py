"""A script that the store runs: all of it or, where it raises at once, nothing of it."""

from __future__ import annotations

from hashlib import sha1


class Script:
    """A script with the digest that the store knows it by."""

    __slots__ = ("digest", "name", "text")

    def __init__(self, name: str, text: bytes) -> None:
        # For messages.
        self.name = name
        self.text = text
        self.digest = sha1(text, usedforsecurity=False).hexdigest().encode()

    def __repr__(self) -> str:
        """Return the name, since the text is long."""
        return f"Script({self.name})"
