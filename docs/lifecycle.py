"""The life-cycle of a job in docs/protocol.md, drawn from the table of legal moves."""

from __future__ import annotations

import re
from pathlib import Path

from headway.core.job import MOVES, State

PAGE = Path(__file__).with_name("protocol.md")
BLOCK = re.compile(r"(?<=<!-- lifecycle -->\n).*?(?=<!-- /lifecycle -->)", re.DOTALL)


def drawing() -> str:
    """Return a Mermaid state diagram of MOVES."""
    lines = ["```mermaid", "stateDiagram-v2"]
    for before, allowed in MOVES.items():
        start = "[*]" if before is State.EMPTY else before.name.lower()
        lines += [f"    {start} --> {after.name.lower()}" for after in sorted(allowed)]
    return "\n".join([*lines, "```", ""])


def page() -> str:
    """Return docs/protocol.md with its drawing made anew."""
    return BLOCK.sub(drawing(), PAGE.read_text())
