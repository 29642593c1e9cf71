"""The fresh-machine road: what `make help` lists, what is installed, what type checkers see."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.end_to_end.process import Server

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


TASKS = """
import headway

@headway.task(run_in="process")
def beside(payload):
    from headway.core.processes import child
    return child.__file__

@headway.task
def inside(payload):
    from headway.core.local import engine
    return engine.__file__
"""


@pytest.mark.parametrize("command", ["headway", "-m"])
def test_an_installation_works_from_the_folder_of_the_checkout(tmp_path: Path, command: str) -> None:
    """As setuptools lays it out from a wheel, with a journal and worker processes, whose Pythons are new ones."""
    site = tmp_path / "site"
    for package, folder in SETUPTOOLS["package-dir"].items():
        for file in (ROOT / folder).iterdir():
            if file.is_file():
                (site / package.replace(".", "/")).mkdir(parents=True, exist_ok=True)
                shutil.copy(file, site / package.replace(".", "/"))
    (site / "tasks_of_an_installation.py").write_text(TASKS)
    script = tmp_path / "headway"
    script.write_text("from headway.__main__ import main\nmain()\n")
    settings = {"server__port": 0, "tasks": ["tasks_of_an_installation"], "journal__path": str(tmp_path / "j.db")}
    # Without site, which would find the checkout by the editable installation that the tests run in.
    begin = [sys.executable, "-S", *([str(script)] if command == "headway" else ["-m", "headway"])]
    path = [str(site), *(part for part in sys.path if part.endswith("site-packages"))]
    server = Server(ROOT, settings, command=begin, path=os.pathsep.join(path))
    try:
        server.wait_until_serving()
        # ``python -m`` finds the checkout first, and then all of it; nothing is of both.
        root = ROOT if command == "-m" else site
        for task in ("inside", "beside"):
            assert Path(server.get(server.run(task) + "/result").json).is_relative_to(root), task
        server.process.terminate()
        assert server.wait() == 0
    finally:
        server.kill()


def test_type_checkers_find_what_is_installed() -> None:
    assert {link.name for link in LINKS} >= {"__init__.py", "py.typed", "core", "protocol", "sim"}
    for link in LINKS:
        assert link.is_symlink(), link
        assert not link.readlink().is_absolute(), link
        folder = link.name if link.name in {"core", "protocol", "sim"} else f"headway/{link.name}"
        assert link.resolve(strict=True) == ROOT / folder
