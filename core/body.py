"""A payload that is content as the client sent it."""

from __future__ import annotations


class Body:
    """Content and its media type, as a task receives them. ``headway.Body`` as an annotation asks for it."""

    __slots__ = ("data", "media_type")

    def __init__(self, data: bytes, media_type: str = "application/octet-stream") -> None:
        self.data = data
        self.media_type = media_type

    def __repr__(self) -> str:
        return f"<Body {self.media_type}, {len(self.data)} bytes>"
