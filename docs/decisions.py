"""docs/adr/index.md: the decisions, each with its title."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill

PAGE = Path(__file__).parent / "adr" / "index.md"
HEAD = """\
# Decisions

<!-- Written by `make docs` from the files of this folder. -->

Each page has a decision, its reasons, and the ways that were not taken. A page describes its time.
[The architecture](../architecture.md) is that of today.

"""


def page() -> str:
    """Return the page."""
    files = sorted(PAGE.parent.glob("[0-9]*.md"))
    titles = [file.read_text().partition("\n")[0].removeprefix("# ") for file in files]
    lines = [f"- [{title}]({file.name})" for file, title in zip(files, titles, strict=True)]
    return HEAD + "".join(f"{fill(line, 96, subsequent_indent='  ', break_on_hyphens=False)}\n" for line in lines)
