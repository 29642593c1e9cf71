"""A payload that is content as the client sent it."""

from __future__ import annotations

import re

# RFC 9110, 8.3.1: type/subtype, then parameters. Printable ASCII, so that it cannot end its header
# line.
_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_media_type = re.compile(rf"{_NAME}/{_NAME}[ \t]*(;[\t -~]*)?").fullmatch
MEDIA_TYPE_LONGEST = 200
JSON = "application/json"
OCTETS = "application/octet-stream"


def is_media_type(text: str) -> bool:
    """Whether ``text`` is a media type, of content or of a result."""
    return len(text) <= MEDIA_TYPE_LONGEST and _media_type(text) is not None


class Body:
    """Content and its media type, as a task receives them. ``headway.Body`` as an annotation asks for it."""

    __slots__ = ("data", "media_type")

    def __init__(self, data: bytes, media_type: str = OCTETS) -> None:
        self.data = data
        self.media_type = media_type

    def __repr__(self) -> str:
        return f"<Body {self.media_type}, {len(self.data)} bytes>"
