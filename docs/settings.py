"""docs/settings.md: each setting with its values, its default and the comment of config.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
from headway.core.config import Config, Section
from headway.core.faults import allowed

PAGE = Path(__file__).with_name("settings.md")
CONFIG = Path(__file__).parents[1] / "config.yaml"
HEAD = """\
# Settings

<!-- Written by `make docs` from core/config.py and config.yaml. -->

`headway serve` reads `headway.yaml` in the current folder, else `config.yaml`, or the file that
`--config` or `HEADWAY_CONFIG` names. [Ours](../config.yaml) has each setting with its default. A
variable overrides the file, and an option of the command line overrides both. The value of a
variable is read as YAML:

    HEADWAY_SERVER__PORT=9001 HEADWAY_TASKS='[my.tasks]' headway serve --workers 64

Sizes are in bytes, times in seconds. An unknown setting, and a value that is not allowed, ends the
start with one line that names the key, the value and the values allowed.
`headway serve --check` looks without a start.
"""
COLUMNS = "| setting | meaning | default | allowed |\n|---|---|---|---|\n"


def page() -> str:
    """Return the page."""
    comments = dict(_comments(CONFIG.read_text()))
    defaults, tops, sections = Config(), [], []
    for field in msgspec.structs.fields(Config):
        value = getattr(defaults, field.name)
        if isinstance(value, Section):
            rows = _rows(value, f"{field.name}.", comments)
            note = comments.get(field.name, "")
            sections.append(f"\n## `{field.name}`\n\n{_sentence(note)}{COLUMNS}{rows}")
        else:
            tops.append(_row(Config, field.name, field.name, value, comments))
    top = f"\n## Without a section\n\n{COLUMNS}{''.join(tops)}"
    return HEAD + top + "".join(sections)


def _rows(section: Section, prefix: str, comments: dict[str, str]) -> str:
    rows = ""
    for field in msgspec.structs.fields(section):
        name, value = f"{prefix}{field.name}", getattr(section, field.name)
        if isinstance(value, Section):
            rows += _rows(value, f"{name}.", comments)
        else:
            rows += _row(type(section), field.name, name, value, comments)
    return rows


def _row(kind: type[Section], key: str, name: str, value: object, comments: dict[str, str]) -> str:
    meaning = comments[name].replace("|", "\\|")
    return f"| `{name}` | {meaning} | {_shown(value)} | {allowed(kind, key)} |\n"


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{'null' if value is None else str(value).lower() if isinstance(value, bool) else value}`"


def _sentence(note: str) -> str:
    return f"{note[0].upper()}{note[1:]}.\n\n" if note else ""


def _comments(text: str) -> Iterator[tuple[str, str]]:
    """Yield the name of each setting, and of a section that has a comment, with the comment."""
    path: list[str] = []
    for line in text.splitlines():
        found = re.match(r"( *)(\w+):.*?(?:\s#\s?(.*))?$", line)
        if found is None:
            continue
        indent, key, comment = found.groups()
        path[len(indent) // 2 :] = [key]
        if comment is not None:
            yield ".".join(path), comment.strip()
