"""The lock files fit pyproject.toml, have hashes, and are all that is installed; licences and faults are told."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from release import audit, lock
from tests.each import each

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()
EXTRAS = lock.PROJECT["project"]["optional-dependencies"]
SERVER = [*lock.PROJECT["project"]["dependencies"], *EXTRAS["valkey"]]


def wanted(group: str) -> list[str]:
    """Return the requirements of a group, with those of the groups that it includes."""
    found: list[str] = []
    for one in lock.PROJECT["dependency-groups"][group]:
        found += wanted(one["include-group"]) if isinstance(one, dict) else [one]
    return found


FILES = {
    lock.SERVER: SERVER,
    lock.DEV: [*SERVER[: -len(EXTRAS["valkey"])], *EXTRAS["examples"], *EXTRAS["reload"], *wanted("dev")],
} | {lock.FOLDER / f"{group}.txt": wanted(group) for group in lock.groups()}


def test_there_is_a_file_for_each_group_and_no_other() -> None:
    assert set(lock.FOLDER.iterdir()) == set(FILES)


@each("file", FILES, ids=lambda file: file.name)
def test_a_file_has_what_pyproject_asks_for(file: Path) -> None:
    """If it has not, ``make lock`` writes it."""
    for text in FILES[file]:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        releases = [pin.release for pin in lock.pins(file) if pin.name == name]
        assert releases, text
        assert all(requirement.specifier.contains(release, prereleases=True) for release in releases), text


@each("file", FILES, ids=lambda file: file.name)
def test_each_release_of_a_file_has_hashes(file: Path) -> None:
    text = file.read_text()
    assert text.startswith(lock.HEAD)
    blocks = re.split(r"\n(?=[a-z])", text.removeprefix(lock.HEAD).strip())
    assert len(blocks) == len(lock.pins(file))
    for block in blocks:
        first, *hashes = block.split(" \\\n")
        assert re.fullmatch(r"[a-z0-9-]+(\[[a-z0-9,-]+\])?==\S+( ; .+)?", first), first
        assert hashes
        assert all(re.fullmatch(r" +--hash=sha256:[0-9a-f]{64}", line) for line in hashes), first


def test_what_a_server_needs_is_the_same_in_all_files() -> None:
    dev = {(pin.name, pin.release) for pin in lock.pins(lock.DEV)}
    assert {(pin.name, pin.release) for pin in lock.pins(lock.SERVER)} <= dev


def test_what_npm_installs_has_a_version_and_runs_no_script() -> None:
    """A queue that a bench runs, in a folder that is not of the repository."""
    (command,) = re.findall(r"npm install (?:.*\\\n)*.*", MAKEFILE)
    assert {"--ignore-scripts", "--save-exact"} <= set(command.split())
    assert "--prefix tmp/" in command
    packages = [word for word in re.sub(r"\$\(if .*\)", "x64", command).split() if "@" in word]
    assert len(packages) == 3
    assert [word for word in packages if not re.fullmatch(r"(@[a-z]+/)?[a-z0-9-]+@\d+\.\d+\.\d+", word)] == []


def test_nothing_is_installed_but_from_a_lock_file() -> None:
    """No target installs a group or a name, and each file that one installs is there."""
    assert re.findall(r"pip install(?! -q --require-hashes -r$).*", MAKEFILE, re.MULTILINE) == []
    image = (ROOT / "Dockerfile").read_text()
    names = re.findall(r"\$\(INSTALL\) (\S+)", MAKEFILE) + re.findall(r"-r (requirements/\S+)", image)
    assert {ROOT / name for name in names} == set(FILES) - {lock.DEV}
    assert (
        re.findall(r"pip install (?!--no-cache-dir (?:--require-hashes -r|--no-deps --no-build-isolation \.)).*", image)
        == []
    )
    bootstrap = (ROOT / "bootstrap.py").read_text()
    assert re.findall(r'"install", "(--[a-z-]+)"', bootstrap) == [
        "--no-deps",
        "--require-hashes",
        "--require-hashes",
        "--no-deps",
    ]


def test_the_licences_are_those_of_the_lock_file() -> None:
    """If they are not, ``make lock`` writes them."""
    assert lock.LICENCES.read_text() == lock.page()
    assert "unknown" not in lock.LICENCES.read_text()


def test_known_faults_fail_and_an_unreachable_source_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    good = {"name": "one", "version": "1", "vulns": []}
    bad = {"name": "two", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
    skipped = {"name": "three", "skip_reason": "not found"}
    for dependencies, code, said in (
        ([good], 0, "1 releases have 0 known faults"),
        ([good, bad, skipped], 1, "two 2: PYSEC-1. Mended in: 3"),
        ([skipped], 0, "not run, the advisories of PyPI cannot be reached"),
    ):
        assert audit.told(json.dumps({"dependencies": dependencies}), "") == code
        assert said in capsys.readouterr().out
    assert audit.told("", "requests.exceptions.ConnectionError: no route") == 0
    assert "not run" in capsys.readouterr().out
    assert audit.told("", "ValueError: no hash") == 1
    assert "pip-audit failed: ValueError: no hash" in capsys.readouterr().out
