"""The scripts of the store, in ``lua``: each makes one change, of many jobs at once, or none of it.

A script is its file, after the files that its line ``-- uses:`` names. ``-- flags:`` has its flags.
One that may run on a full store has ``allow-oom``. All declare one key, ``Keyspace.counts``, derive the
others from it, and take the marker of the ids first: they raise MISPLACED if the keys are not those
of these ids. Scripts of a node raise DEAD once it was declared dead.

``groups`` has the arguments and the reply of ``submit``, ``steps`` those of ``step``, and
``changes`` those of all others.
"""

from __future__ import annotations

import re
from pathlib import Path

from headway.core.link.script import Script

FOLDER = Path(__file__).parent / "lua"


def script(name: str) -> Script:
    """Return the script of a file in ``lua``."""
    text = (FOLDER / f"{name}.lua").read_text()
    parts = [(FOLDER / f"{part}.lua").read_text() for part in _named("uses", text)]
    flags = ",".join(_named("flags", text))
    # Without the first line a write on a full store raises, but only if it is the first one.
    head = [f"#!lua flags={flags}\n"] if flags else []
    return Script(name, _bare("".join([*head, *parts, text])).encode())


def _named(what: str, text: str) -> list[str]:
    found = re.search(rf"^-- {what}: (.*)$", text, re.MULTILINE)
    return found[1].split() if found else []


def _bare(text: str) -> str:
    """Return a script without its comments and indents. The store keeps the text."""
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("--"))


SUBMIT = script("submit")
STEP = script("step")
CANCEL = script("cancel")
REVISE = script("revise")
SWITCH = script("switch")
# Of nodes and their attempts.
JOIN = script("join")
PROGRESS = script("progress")
WRITE_LOG = script("write_log")
REAP = script("reap")
# Reads and chores.
BATCH = script("batch")
COUNTS = script("counts")
FIND = script("find")
TRIM = script("trim")
# Of events, and of the audit log.
WATCH = script("watch")
NOTE = script("note")
