"""The fresh-machine road: what `make help` lists, what is installed, what type checkers see."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
LINKS = sorted((ROOT / "typings" / "headway").iterdir())


def make(*arguments: str) -> str:
    """Return what make prints, called as from a terminal: nothing of an outer make's in its environment."""
    inherited = {"MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "MAKEFILES", "NO_COLOR"}
    env = {name: value for name, value in os.environ.items() if name not in inherited}
    return subprocess.run(["make", *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout


def test_help_is_the_default_and_lists_every_target() -> None:
    said = re.findall(r"^([^\s:]+):.*?## (.+)$", MAKEFILE, re.MULTILINE)
    listed = re.findall(r"^  make (\S+) +(.+)$", make(), re.MULTILINE)
    phony = re.findall(r"^\.PHONY: ((?:.*\\\n)*.+)$", MAKEFILE, re.MULTILINE)[0].replace("\\", "").split()
    assert listed == said
    assert {target for target, _ in listed} == set(phony) - {".venv"}


def test_every_folder_with_code_is_a_package() -> None:
    """Setuptools installs only the packages that are listed, so a new sub-folder must be added there."""
    expected = {}
    for top in ("headway", "core", "protocol", "sim"):
        for folder in [ROOT / top, *(ROOT / top).rglob("*/")]:
            if any(folder.glob("*.py")) or (folder / "py.typed").exists():
                parts = folder.relative_to(ROOT).parts
                name = ".".join(parts if top == "headway" else ("headway", *parts))
                expected[name] = "/".join(parts)
    assert SETUPTOOLS["package-dir"] == expected
    assert sorted(SETUPTOOLS["packages"]) == sorted(expected)


def test_type_checkers_find_what_is_installed() -> None:
    assert {link.name for link in LINKS} >= {"__init__.py", "py.typed", "core", "protocol", "sim"}
    for link in LINKS:
        assert link.is_symlink(), link
        assert not link.readlink().is_absolute(), link
        folder = link.name if link.name in {"core", "protocol", "sim"} else f"headway/{link.name}"
        assert link.resolve(strict=True) == ROOT / folder


def test_a_venv_that_is_a_link_is_not_emptied(tmp_path: Path) -> None:
    """It is that of another checkout, maybe."""
    other, ours = tmp_path / "other", tmp_path / "ours"
    (ours / "requirements").mkdir(parents=True)
    other.mkdir()
    (other / "kept").touch()
    (ours / ".venv").symlink_to(other)
    for name in ("bootstrap.py", "requirements/dev.txt", "pyproject.toml"):
        (ours / name).write_bytes((ROOT / name).read_bytes())
    made = subprocess.run([sys.executable, "bootstrap.py"], cwd=ours, capture_output=True, text=True)
    assert made.returncode == 1
    assert made.stderr == (
        f"headway: .venv is a link to {other}, which would be emptied: remove the link and try again\n"
    )
    assert [path.name for path in other.iterdir()] == ["kept"]
