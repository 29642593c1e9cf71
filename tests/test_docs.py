"""What is written down is what there is."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
import yaml
from headway.core.config import Config
from headway.core.config_sources import load
from headway.core.job import MOVES, State
from headway.protocol.api.operation import Route
from headway.protocol.api.routes import ROUTES
from headway.protocol.http.problems import REFUSALS

from headway.cli import server
from headway.cli.main import main as headway
from headway.cli.server import EPILOG, EXITS
from tests.conftest import Start
from tests.each import each

ROOT = Path(__file__).parent.parent
PROTOCOL = (ROOT / "docs/protocol.md").read_text()
README = (ROOT / "README.md").read_text()
# Pages of today; an ADR may name a file that is gone, so only its links are held.
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
ADRS = sorted((ROOT / "docs/adr").glob("*.md"))
# No part of the repository: the benches leave it.
LEFT_BY_BENCHES = "bench/results/"


def settings(struct: msgspec.Struct, prefix: str = "") -> Iterator[tuple[str, object]]:
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        if isinstance(value, msgspec.Struct):
            yield from settings(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", list(value) if isinstance(value, tuple) else value


def flattened(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_config_yaml_has_every_setting_with_its_default_in_order() -> None:
    text = (ROOT / "config.yaml").read_text()
    flat = dict(flattened(yaml.safe_load(text)))
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


@each("route", ROUTES, ids=lambda route: route.path)
def test_every_route_is_documented(route: Route) -> None:
    undocumented = [name for name in route.names.values() if f"| `{name}` |" not in PROTOCOL]
    # Of all routes at once: OPTIONS, and HEAD wherever there is GET.
    assert set(undocumented) <= {f"HEAD {route.path}", f"OPTIONS {route.path}"}


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


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= 1200


@each("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_a_page_names_exist(page: Path) -> None:
    named = set(
        re.findall(r"`((?:core|protocol|headway|sim|docs|bench|examples|release|tests)/[\w/.]*)`", page.read_text())
    )
    assert [name for name in sorted(named - {LEFT_BY_BENCHES}) if not (ROOT / name).exists()] == []


def test_the_roads_lead_through_files_that_exist() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    roads = "\n".join(line for line in page.splitlines() if line.startswith("    "))
    paths = [
        path for top in ("core", "protocol") for path in ROOT.glob(f"{top}/**/*") if path.suffix in {".py", ".lua"}
    ]
    places = {"/".join(path.with_suffix("").parts[-2:]) for path in paths}
    assert [name for name in re.findall(r"\w+/\w+", roads) if name not in places] == []


def test_the_map_has_each_package_of_the_server() -> None:
    named = (ROOT / "docs/architecture.md").read_text()
    packages = [
        path.parent.relative_to(ROOT) for top in ("core", "protocol") for path in ROOT.glob(f"{top}/**/__init__.py")
    ]
    assert [str(package) for package in packages if f"`{package}/`" not in named] == []


@each("page", [*PAGES, *ADRS], ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in link]
    wrong = []
    for link in links:
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            wrong.append(link)
    assert wrong == []


def anchors(page: str) -> set[str]:
    """The anchors that GitHub gives to the headings of ``page``."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each("page", PAGES, ids=lambda page: page.name)
def test_the_targets_of_make_that_a_page_names_exist(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets_named(page.read_text()) <= targets


def test_the_readme_has_the_two_commands() -> None:
    assert {"run-server", "test"} <= targets_named(README)


def targets_named(page: str) -> set[str]:
    return set(re.findall(r"(?:`|^ {4}|[,;] )make ([a-z][\w-]*)", page, re.MULTILINE))


def test_each_figure_can_be_repeated() -> None:
    """Each row of the main table ends in its command, and each other table has one in its section."""
    first, *sections = re.split(r"^## ", (ROOT / "docs/figures.md").read_text(), flags=re.MULTILINE)
    assert "bench/results/" in first
    main, rest = sections[0], sections[1:]
    rows = re.findall(r"^\| .*\|$", main, re.MULTILINE)[1:]
    assert len(rows) > 10
    assert [row for row in rows if not re.search(r"`make [^`]+` \|$", row)] == []
    assert [section.splitlines()[0] for section in rest if "|---" in section and "`make " not in section] == []


def test_the_readmes_figures_are_those_of_the_page_of_figures() -> None:
    figures = (ROOT / "docs/figures.md").read_text()
    table = README.split("## Three figures")[1].split("\n\n")[1]
    rows = [row.strip("| ").split(" | ") for row in table.splitlines()[2:]]
    assert len(rows) == 3
    for _, shown, command in rows:
        assert f"| {command} |" in figures
        assert numbers(shown) <= numbers(figures)


def numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:[.,]\d+)*", text))


# Transcripts: lines that begin with "$ " are run in one shell, what follows is compared with what comes back.

MASKS = (
    (re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"), "<date>"),
    (re.compile(r"(Retry-After|Retry-After-Ms|Job-Progress): \d+"), r"\1: <n>"),
    (re.compile(r"dur=[\d.]+"), "dur=<ms>"),
    (re.compile(r"max-age=\d+"), "max-age=<s>"),
    (re.compile(r"\b[0-9a-f]{36}\b"), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "<time>"),
    (re.compile(r"after \d+\.\d{3} s"), "after <s>"),
)
# Between what two commands print, with the exit code of the first: the record separator is in no answer.
END = "\x1e"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def transcript(page: str) -> list[tuple[str, str]]:
    """The commands of ``page``, each with what it is shown to print."""
    steps = re.split(r"^\$ ", "".join(blocks(page, "console")), flags=re.MULTILINE)[1:]
    return [(command, shown.strip()) for command, _, shown in (step.partition("\n") for step in steps)]


def printed(commands: Sequence[str], folder: Path) -> list[str]:
    """What each command prints when all are pasted into one shell; none may fail."""
    script = "".join(f"{command}\nprintf '{END}%s\\n' $?\n" for command in commands)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ran = subprocess.run(
        ["sh"], input=script, capture_output=True, text=True, cwd=folder, env=environment, timeout=60, check=True
    )
    said = re.findall(rf"(.*?){END}(\d+)\n", ran.stdout.replace("\r", ""), re.DOTALL)
    assert [code for _, code in said] == ["0"] * len(commands), ran.stderr
    return [text.strip() for text, _ in said]


def masked(text: str) -> str:
    for pattern, name in MASKS:
        text = pattern.sub(name, text)
    return text


def tasks_served(page: str) -> list[str]:
    """The tasks of the server that ``page`` starts by ``headway serve --tasks …``."""
    (named,) = set(re.findall(r"headway serve --tasks ([\w.,]+)", page))
    return list(load(None, {}, {"--tasks": [named]}).tasks)


@pytest.mark.skipif(not shutil.which("curl"), reason="the commands use curl, which is not installed")
@pytest.mark.parametrize(
    ("name", "examples"),
    [("README.md", []), ("docs/tasks.md", ["examples.tasks"]), pytest.param("docs/cli.md", [], marks=pytest.mark.long)],
)
def test_the_commands_of_a_page_print_what_it_shows(
    name: str, examples: list[str], start: Start, tmp_path: Path
) -> None:
    page = (ROOT / name).read_text()
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "shop.py").write_text("".join(blocks(page, "python")))
    port = start(tasks=[*tasks_served(page), *examples]).port
    steps = transcript(page)
    assert len(steps) >= 4
    commands = [command.replace("localhost:8080", f"127.0.0.1:{port}") for command, _ in steps]
    for (command, shown), said in zip(steps, printed(commands, tmp_path), strict=True):
        assert masked(said) == masked(shown), command


def test_the_tests_of_the_page_on_tests_pass(tmp_path: Path) -> None:
    task, tests = blocks((ROOT / "docs/testing.md").read_text(), "python")
    (tmp_path / "shop.py").write_text(task)
    (tmp_path / "test_shop.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-o", "addopts=", "test_shop.py"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "2 passed" in ended.stdout, ended.stdout


# Scripts: each block of a language is run by itself on a server with the task of the README.

# What each prints, its lines sorted.
SCRIPTS = {
    ("docs/client.md", "python"): [
        ["{'rows': 3}"],
        ["True", *sorted(f"{{'rows': {rows}}} {{'rows': {rows}}}" for rows in range(10))],
        ["100"],
        # Jobs that failed, and the log of one that logs nothing: there are none.
        [],
        [],
        ["{'matched': 0, 'done': 0, 'skipped': 0}"],
        ["error 1 KeyError: 'rows'"],
    ],
    ("docs/recipes.md", "python"): [["{'rows': 3}"], ["{'rows': 3}"], []],
    ("docs/recipes.md", "javascript"): [['{"rows":3}']],
}
PROGRAMS = {"python": (sys.executable, "-W", "error"), "javascript": ("node",)}


@pytest.fixture
def shop(start: Start, tmp_path: Path) -> str:
    """The address of a server with the task of the README."""
    (tmp_path / "shop.py").write_text(blocks(README, "python")[0])
    return f"127.0.0.1:{start(tasks=['shop']).port}"


@pytest.mark.long
@pytest.mark.parametrize(("name", "language"), SCRIPTS)
def test_the_scripts_of_a_page_run(name: str, language: str, shop: str, tmp_path: Path) -> None:
    program = PROGRAMS[language]
    if not shutil.which(program[0]):
        pytest.skip(f"{program[0]} is not installed")
    said = []
    for script in blocks((ROOT / name).read_text(), language):
        file = tmp_path / "script"
        file.write_text(script.replace("localhost:8080", shop))
        ran = subprocess.run([*program, file], capture_output=True, text=True, cwd=tmp_path, timeout=60)
        assert (ran.returncode, ran.stderr) == (0, ""), script
        said.append(sorted(ran.stdout.splitlines()))
    assert said == [sorted(lines) for lines in SCRIPTS[name, language]]


@pytest.mark.skipif(not shutil.which("curl"), reason="the commands use curl, which is not installed")
def test_the_commands_of_the_recipes_print_what_they_show(shop: str, tmp_path: Path) -> None:
    steps = transcript((ROOT / "docs/recipes.md").read_text())
    said = printed([command.replace("localhost:8080", shop) for command, _ in steps], tmp_path)
    assert said == [shown for _, shown in steps]
    assert said[-1] == '{"rows":3}'


@each("name", headway.commands)
def test_every_command_is_documented_with_its_options(name: str) -> None:
    """Those of ``serve``, ``simulate`` and ``journal`` have pages of their own, or their ``--help``."""
    page = (ROOT / "docs/cli.md").read_text()
    assert f"| `headway {name}" in page
    command = headway.commands[name]
    options = [
        option for parameter in command.params if isinstance(parameter, click.Option) for option in parameter.opts
    ]
    if command.epilog == EPILOG:
        assert [option for option in options if f"`{option}" not in page] == []


def test_every_exit_code_is_documented_and_in_the_help() -> None:
    page = (ROOT / "docs/cli.md").read_text()
    documented = {int(code) for code in re.findall(r"^\| (\d+) \| ", page, re.MULTILINE)}
    assert {*EXITS.values(), *(getattr(server, name) for name in dir(server) if name.startswith("EXIT_"))} < documented
    # But that of a closed pipe.
    assert {int(code) for code in re.findall(r"\b\d+\b", EPILOG)} == documented - {141} | {0}


def test_every_error_of_the_client_is_documented() -> None:
    page = (ROOT / "docs/client.md").read_text()
    errors = re.findall(r"^class (\w+)\(HeadwayError", (ROOT / "headway/client/errors.py").read_text(), re.MULTILINE)
    assert len(errors) > 5
    assert [name for name in errors if f"| `{name}` |" not in page] == []
