"""A value for each member of a submission but its task: one that is not its default."""

from __future__ import annotations

from typing import Any

import msgspec

# A member that is added to a submission is added here, and tests ask of each place whether it passes it on.
ALONE: dict[str, Any] = {
    "payload": msgspec.Raw(b"[1]"),
    "priority": 9,
    "delay": 2.5,
    "timeout": 7.5,
    "deadline": 90.0,
    "retries": 9,
    "keep": 55.0,
    "traceparent": f"00-{'1' * 32}-{'2' * 16}-01",
    "tags": ("blue",),
    "durability": "memory",
    "media_type": "image/png",
}
# Those that make no term of a job.
NO_TERMS = {"payload", "priority", "delay", "durability"}
