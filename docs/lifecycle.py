"""Draw the life-cycle of a job in docs/protocol.md from the table of legal moves: ``python docs/lifecycle.py``."""

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


def redrawn(page: str) -> str:
    """Return ``page`` with its drawing made anew."""
    return BLOCK.sub(drawing(), page)


if __name__ == "__main__":
    PAGE.write_text(redrawn(PAGE.read_text()))
