"""Write the lock files in ``requirements/``: each release that the Makefile installs, with its hashes.

``headway.txt`` has what a server needs, with the extra ``valkey``. ``dev.txt`` has what ``.venv``
needs. Each other file is a group of pyproject.toml, in the same releases as far as it shares them
with ``.venv``. A file is for all Pythons and platforms that Headway runs on.

The table of licences, docs/licences.md, is written too. It is of ``headway.txt``.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "requirements"
LICENCES = ROOT / "docs" / "licences.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# The oldest Python.
PYTHON = PROJECT["project"]["requires-python"].removeprefix(">=")
SERVER, DEV = FOLDER / "headway.txt", FOLDER / "dev.txt"
OF_SERVER = ("--extra", "valkey")
OF_DEV = ("--extra", "examples", "--extra", "reload", "--group", "dev")
# They have folders of their own, since they need other releases than all else.
APART = ("bench-arq", "bench-celery")
HEAD = "# Written by `make lock`. Do not edit it: edit pyproject.toml.\n"
_pin = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]+\])?==([^ ;\\]+)(?: ; ([^\\\n]+?))? *\\$", re.MULTILINE)
_PAGE = """# Licences

Headway has the MIT licence. These are the libraries that a server needs, in the releases of
`requirements/headway.txt`, with their own licences. The dashboard has two libraries in it:
[their licences](../protocol/dashboard/LICENSES.txt).

This page is written by `make lock`.

| library | release | licence | where |
|---|---|---|---|
"""


class Pin(NamedTuple):
    """A release of a library in a lock file, and the systems that need it, empty for all."""

    name: str
    release: str
    where: str


def pins(file: Path) -> list[Pin]:
    """Return the releases in a lock file. Of one library there are several where the Pythons differ."""
    return [Pin(*found) for found in _pin.findall(file.read_text())]


def page() -> str:
    """Return the table of licences. A library that is not installed here keeps its row."""
    before = dict(
        re.findall(r"^\| (\S+) \| \S+ \| (.+?) \|", LICENCES.read_text(), re.MULTILINE) if LICENCES.exists() else ()
    )
    rows = []
    for name, release, marker in pins(SERVER):
        if "sys_platform == 'emscripten'" in marker:
            # No server runs in a browser.
            continue
        where = f"`{marker}`" if marker else "everywhere"
        rows.append(f"| {name} | {release} | {licence(name) or before.get(name, 'unknown')} | {where} |\n")
    return _PAGE + "".join(rows)


def licence(name: str) -> str | None:
    """Return the licence that an installed library names, None if it is not installed."""
    try:
        told = dict(metadata.metadata(name).json)
    except metadata.PackageNotFoundError:
        return None
    if "license_expression" in told:
        return str(told["license_expression"])
    found = [
        str(text).rpartition(" :: ")[2] for text in told.get("classifier", []) if str(text).startswith("License ::")
    ]
    # Some have their whole licence there.
    return ", ".join(found) or str(told.get("license", "")).partition("\n")[0] or None


def main() -> None:
    """Write all lock files."""
    FOLDER.mkdir(exist_ok=True)
    lock(DEV, ["pyproject.toml", *OF_DEV])
    lock(SERVER, ["pyproject.toml", *OF_SERVER, "--constraints", str(DEV)])
    for group in groups():
        beside = () if group in APART else ("--constraints", str(DEV))
        lock(FOLDER / f"{group}.txt", ["--group", group, *beside])
    LICENCES.write_text(page())


def groups() -> Iterator[str]:
    """Yield the groups with a file of their own."""
    return (group for group in PROJECT["dependency-groups"] if group != "dev")


def lock(file: Path, what: Sequence[str]) -> None:
    """Write one file. Releases that it has already stay, unless ``--upgrade`` was given."""
    print(file.relative_to(ROOT), flush=True)
    uv = Path(sys.executable).with_name("uv")
    options = [
        "--universal",
        "--python-version",
        PYTHON,
        "--generate-hashes",
        "--no-annotate",
        "--no-header",
        "--quiet",
    ]
    command = [uv, "pip", "compile", *what, *options, *sys.argv[1:], "--output-file", file]
    if subprocess.run(command, cwd=ROOT).returncode:
        sys.exit(f"headway: {file.name} could not be written, see above")
    text = file.read_text()
    if not text.startswith(HEAD):
        file.write_text(HEAD + text)


if __name__ == "__main__":
    main()
