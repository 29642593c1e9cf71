"""What is written down is what there is."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import yaml
from headway.core.config import Config, load
from headway.core.job import MOVES, State
from headway.protocol.api.routes import ROUTES, Route
from headway.protocol.http.problems import REFUSALS

from tests.conftest import Start

ROOT = Path(__file__).parent.parent
PROTOCOL = (ROOT / "docs/protocol.md").read_text()
README = (ROOT / "README.md").read_text()


def settings(struct: msgspec.Struct, prefix: str = "") -> Iterator[tuple[str, object]]:
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        if isinstance(value, msgspec.Struct):
            yield from settings(value, f"{field.name}.")
        else:
            yield f"{prefix}{field.name}", list(value) if isinstance(value, tuple) else value


def test_config_yaml_has_every_setting_with_its_default_in_order() -> None:
    text = (ROOT / "config.yaml").read_text()
    flat = {
        f"{section}.{key}" if key else section: value
        for section, content in yaml.safe_load(text).items()
        for key, value in (content.items() if isinstance(content, dict) else [("", content)])
    }
    assert list(flat) == [name for name, _ in settings(Config())]
    # The one setting that the file does not leave at its default.
    assert flat.pop("tasks") == ["examples.tasks"]
    assert flat == {name: value for name, value in settings(Config()) if name != "tasks"}


def test_every_setting_has_a_comment() -> None:
    lines = [line for line in (ROOT / "config.yaml").read_text().splitlines() if re.match(r" *\w+: *[^ #]", line)]
    assert len(lines) == len(list(settings(Config())))
    assert [line for line in lines if "#" not in line] == []


def test_config_yaml_is_loaded_as_it_is_written() -> None:
    assert load(ROOT / "config.yaml", {}).tasks == ("examples.tasks",)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_every_route_is_documented(route: Route) -> None:
    undocumented = [name for name in route.names.values() if f"| `{name}` |" not in PROTOCOL]
    assert undocumented in ([], [f"HEAD {route.path}"])


def test_every_documented_route_is_there() -> None:
    documented = set(re.findall(r"^\| `((?:GET|HEAD|POST|PUT|DELETE) /[^`]*)` \|", PROTOCOL, re.MULTILINE))
    assert documented <= {name for route in ROUTES for name in route.names.values()}


def test_every_refusal_is_documented_with_its_code() -> None:
    missing = [reason for reason, (code, _) in REFUSALS.items() if f"| {code} | `{reason}` |" not in PROTOCOL]
    assert missing == []


def test_the_life_cycle_is_drawn_from_the_table() -> None:
    drawn = re.findall(r"^    (\S+) --> (\S+)$", PROTOCOL, re.MULTILINE)
    names = {state: "[*]" if state is State.EMPTY else state.name.lower() for state in State}
    assert set(drawn) == {(names[before], names[after]) for before in State for after in MOVES[before]}


def test_the_changelog_has_something_to_say() -> None:
    assert "## Unreleased\n\n- " in (ROOT / "CHANGELOG.md").read_text()


def test_the_files_that_the_readme_names_exist() -> None:
    named = re.findall(r"`((?:core|protocol|sim|docs|bench|examples|tests)/[\w/.]+)`|\]\(([\w/.]+)\)", README)
    paths = {path for pair in named for path in pair if path}
    assert len(paths) > 10
    # What the benches leave is not tracked.
    paths.discard("bench/results/")
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


# The README's transcripts: lines that begin with "$ " are run, what follows is compared with what comes back.

MASKS = (
    (re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"), "<date>"),
    (re.compile(r"(Retry-After|Retry-After-Ms|Job-Progress): \d+"), r"\1: <n>"),
    (re.compile(r"dur=[\d.]+"), "dur=<ms>"),
    (re.compile(r"max-age=\d+"), "max-age=<s>"),
)
JOB_ID = re.compile(r"\b[0-9a-f]{36}\b")


def transcript() -> list[tuple[str, str]]:
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    steps = re.split(r"^\$ ", "".join(blocks), flags=re.MULTILINE)[1:]
    return [(command, said.strip()) for command, _, said in (step.partition("\n") for step in steps)]


def masked(text: str) -> str:
    for pattern, name in MASKS:
        text = pattern.sub(name, text)
    return text


@pytest.mark.skipif(not shutil.which("curl"), reason="the README's commands use curl, which is not installed")
def test_the_readmes_commands_give_what_it_shows(start: Start, tmp_path: Path) -> None:
    port = start(tasks=["examples.tasks"], drain_linger=0).port
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    shown, given = list[str](), list[str]()
    steps = transcript()
    assert len(steps) >= 8
    for command, said in steps:
        ran = subprocess.run(
            ["sh", "-c", translated(command, shown, given).replace("localhost:8080", f"127.0.0.1:{port}")],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            timeout=20,
            check=True,
        )
        got = ran.stdout.replace("\r", "").strip()
        shown += JOB_ID.findall(said)
        given += JOB_ID.findall(got)
        assert masked(got) == masked(translated(said, shown, given)), command


def translated(text: str, shown: list[str], given: list[str]) -> str:
    """``text`` of the README with the ids that this server gave."""
    for old, new in zip(shown, given, strict=True):
        text = text.replace(old, new)
    return text
