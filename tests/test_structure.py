"""Imports go one way, and the files are what the packages say they are."""

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.each import each

ROOT = Path(__file__).parent.parent
CORE = ROOT / "core"
CLIENT = ROOT / "headway" / "client"
# What each folder may import of ours.
ALLOWED = {
    "core": {"headway.core"},
    "protocol": {"headway.core", "headway.protocol"},
    "sim": {"headway.sim"},
}
# The packages of core, and those that each may import. All may import the words, which stand in core itself and import
# none of them; ``open`` alone opens an engine.
PACKAGES: dict[str, set[str]] = {
    "tasks": set(),
    "processes": {"tasks"},
    "board": {"tasks"},
    "queue": {"board"},
    "retry_after": {"board", "queue"},
    "work": {"tasks", "processes"},
    "journal": {"processes"},
    "feeds": set(),
    "local": {"tasks", "processes", "board", "queue", "retry_after", "work", "journal", "feeds"},
    # An engine in another process shows what it has (showing, links).
    "gateway": {"tasks", "board", "queue", "retry_after", "local"},
    "link": set(),
    "store": {"tasks", "board", "link"},
    "nodes": {"tasks", "processes", "work", "link", "store"},
    "visit": {"tasks", "board", "link", "store"},
    "valkey": {"tasks", "processes", "board", "queue", "retry_after", "work", "feeds", "link", "store", "nodes"},
}
PROTOCOL: dict[str, set[str]] = {
    "http": set(),
    "process": set(),
    "access": {"http"},
    "api": {"http", "access"},
}
OPEN = {"local", "gateway", "journal", "valkey", "tasks", "processes"}


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


# A dozen tests ask for those of all files, and to read them takes half a second.
@cache
def imports(path: Path) -> Sequence[str]:
    found: list[str] = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found += (f"{node.module}.{alias.name}" for alias in node.names)
    return found


def ours(path: Path) -> set[str]:
    return {name for name in imports(path) if name.split(".")[0] in {"headway", "core", "protocol", "sim", "bench"}}


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_go_one_way(folder: str) -> None:
    wrong = [
        f"{path.name}: {name}"
        for path in (ROOT / folder).rglob("*.py")
        for name in ours(path)
        if not any(name == allowed or name.startswith(f"{allowed}.") for allowed in ALLOWED[folder])
    ]
    assert wrong == []


def packages_of(path: Path) -> set[str]:
    """Return the packages of core that a file imports."""
    names = [name.split(".") for name in imports(path)]
    return {name[2] for name in names if name[:2] == ["headway", "core"] and len(name) > 2 and name[2] in PACKAGES}


@each("package", PACKAGES)
def test_packages_of_core_import_one_way(package: str) -> None:
    wrong = {path.name: packages_of(path) - PACKAGES[package] - {package} for path in (CORE / package).glob("*.py")}
    assert {name: found for name, found in wrong.items() if found} == {}


def test_the_packages_of_core_are_those_that_have_a_rule() -> None:
    assert {path.parent.name for path in CORE.glob("*/__init__.py")} == set(PACKAGES)


def test_the_words_import_only_each_other() -> None:
    found = {path.name: packages_of(path) for path in CORE.glob("*.py")}
    assert found.pop("open.py") <= OPEN
    assert found.pop("interface.py") <= {"tasks"}
    assert found.pop("recovering.py") <= {"retry_after"}
    assert {name: packages for name, packages in found.items() if packages} == {}


@pytest.mark.parametrize("package", PROTOCOL)
def test_packages_of_protocol_import_one_way(package: str) -> None:
    wrong = {}
    for path in (ROOT / "protocol" / package).glob("*.py"):
        names = [name.split(".") for name in imports(path)]
        found = {name[2] for name in names if name[:2] == ["headway", "protocol"] and len(name) > 2}
        wrong[path.name] = found - PROTOCOL[package] - {package}
    assert {name: found for name, found in wrong.items() if found} == {}


def words_of(path: Path) -> set[str]:
    """Return the modules of core itself that a file imports."""
    words = {word.stem for word in CORE.glob("*.py")}
    names = [name.split(".") for name in imports(path)]
    return {name[2] for name in names if name[:2] == ["headway", "core"] and len(name) > 2 and name[2] in words}


# The packages of core that may be seen of each of the protocol.
SEEN: dict[str, set[str]] = {"http": set(), "process": set(), "access": set(), "api": {"tasks"}}
# Those that single files may see besides, and why.
BESIDES: dict[str, set[str]] = {
    # Polls are nearly all traffic: they read the rows themselves.
    "api/polls.py": {"board"},
    # Which tasks were declared: what is checked before a start, what each may take, what a node runs.
    "check.py": {"tasks"},
    "footprint.py": {"tasks"},
    "node.py": {"tasks"},
    # It has the end at which gateways ask: ``open`` makes it.
    "engine_front.py": {"gateway"},
}
OF_PROTOCOL = {str(path.relative_to(ROOT / "protocol")): path for path in (ROOT / "protocol").rglob("*.py")}


def test_the_protocol_sees_an_engine_by_its_interface() -> None:
    """What opens, checks and measures one does, too: ``open`` knows which engines there are."""
    found = {name: packages_of(path) for name, path in OF_PROTOCOL.items()}
    wrong = {name: seen - BESIDES.get(name, SEEN.get(name.split("/")[0], set())) for name, seen in found.items()}
    assert {name: seen for name, seen in wrong.items() if seen} == {}
    # No exception outlives its reason.
    assert {name: found[name] for name in BESIDES} == BESIDES


# A deploy has the engine write a handover to a file without a name.
OF_DEPLOY = {"apart", "handover", "interface", "memfile"}
# The words that may be seen of each.
WORDS: dict[str, set[str]] = {
    # Settings, errors, the time of day, and work in slices: none is about jobs.
    "http": {"config", "errors", "slices", "wall"},
    # Besides settings and errors those of a process: what it forks, its files and log, whose code runs on its loop.
    "process": {"config", "errors", "files", "forks", "records", "running", *OF_DEPLOY},
    # Besides settings and errors a file of tokens, and the form of an id, which may do instead of one.
    "access": {"config", "errors", "files", "ids"},
}
# All other words are for the api, except these: it serves an engine that others open and replace.
NOT_OF_API = {"apart", "files", "forks", "handover", "memfile", "open", "recovering", "running"}


@pytest.mark.parametrize("package", WORDS)
def test_a_package_of_the_protocol_sees_the_words_that_it_needs(package: str) -> None:
    found = {path.name: words_of(path) for path in (ROOT / "protocol" / package).glob("*.py")}
    assert {name: words for name, words in found.items() if words - WORDS[package]} == {}
    assert set().union(*found.values()) == WORDS[package]
    others = {name: words & OF_DEPLOY for name, words in found.items() if name != "deploy.py"}
    assert {name: words for name, words in others.items() if words} == {}


def test_the_api_opens_no_engine() -> None:
    found = {path.name: words_of(path) & NOT_OF_API for path in (ROOT / "protocol" / "api").glob("*.py")}
    # What takes long, such as a large page, is made in a thread.
    assert found.pop("made.py") == {"apart"}
    assert {name: words for name, words in found.items() if words} == {}


def test_the_client_imports_nothing_else_of_ours() -> None:
    """It is installed without the server, too."""
    files = {path.name: ours(path) for path in CLIENT.glob("*.py")}
    wrong = {file: {name for name in found if not name.startswith("headway.client.")} for file, found in files.items()}
    assert {file: names for file, names in wrong.items() if names} == {}


# Commands of the server and its surroundings. All others ask a server, as a client does.
SERVERS = {"main", "init", "serve", "work", "node", "simulate", "journal", "engine", "token", "settings"}


def test_commands_that_ask_a_server_import_the_client_alone() -> None:
    allowed = ("headway.cli.", "headway.client")
    files = {path.name: ours(path) for path in (ROOT / "headway/cli").glob("*.py") if path.stem not in SERVERS}
    wrong = {file: {name for name in found if not name.startswith(allowed)} for file, found in files.items()}
    assert {file: names for file, names in wrong.items() if names} == {}
    assert "jobs.py" in files


def modules() -> dict[str, set[str]]:
    """Each module of ours with those it imports when it is imported."""
    paths = {
        ".".join(("headway", *path.relative_to(ROOT).with_suffix("").parts)): path
        for folder in ALLOWED
        for path in (ROOT / folder).rglob("*.py")
        if path.stem != "__init__"
    }
    return {
        module: {other for name in ours(path) for other in paths if name == other or name.startswith(f"{other}.")}
        for module, path in paths.items()
    }


def test_there_are_no_cycles() -> None:
    edges = modules()
    while edges:
        leaves = {module for module, needs in edges.items() if not needs & edges.keys()}
        assert leaves, f"a cycle among {sorted(edges)}"
        edges = {module: needs for module, needs in edges.items() if module not in leaves}


@each(
    "folder",
    [
        *ALLOWED,
        "headway/cli",
        "headway/client",
        "docs",
        *(f"core/{package}" for package in PACKAGES),
        *(f"protocol/{package}" for package in PROTOCOL),
    ],
)
def test_each_file_stands_in_the_reading_order_of_its_package(folder: str) -> None:
    order = ast.get_docstring(tree_of(ROOT / folder / "__init__.py")) or ""
    files = {path.stem for path in (ROOT / folder).glob("*.py")} - {"__init__"}
    assert [name for name in sorted(files) if f"``{name}``" not in order] == []


def test_core_has_no_socket_and_no_parser() -> None:
    # A socket between two processes of ours is the one means to hand over the end of a pipe.
    paths = [path for path in (ROOT / "core").rglob("*.py") if path.parent.name != "gateway" and path.name != "ends.py"]
    names = {name.split(".")[0] for path in paths for name in imports(path)}
    assert names.isdisjoint({"socket", "http", "httptools", "uvloop", "prometheus_client"})


CONTRACT = ROOT / "tests" / "core" / "contract"


@each("name", sorted(path.name for path in CONTRACT.glob("*.py")))
def test_the_contract_sees_an_engine_by_its_interface(name: str) -> None:
    """So that it holds for an engine that does not exist yet, whose values may all be known later."""
    path = CONTRACT / name
    assert packages_of(path) <= {"tasks"}
    found = {name for name in imports(path) if name.startswith(("headway", "tests.core.engines"))}
    # ``now`` takes a value that is known at once; who opens an engine knows which there are.
    opens = {"headway.core.open.open_engine"} if name == "conftest.py" else set()
    wrong = {"headway.core.open.open_engine", "tests.core.engines.now", "tests.core.engines.engine_with"} - opens
    assert found.isdisjoint(wrong)


# The most values that are given or unpacked by position. More are taken by name, or are one value.
POSITIONAL_MOST = 5
SOURCES = sorted(
    [
        *(path for folder in ("core", "protocol", "headway", "sim", "bench") for path in (ROOT / folder).rglob("*.py")),
        ROOT / "bootstrap.py",
    ]
)


def long_lists(tree: ast.Module) -> Iterator[str]:
    """Yield each definition, call and unpacking with more than POSITIONAL_MOST values by position."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
            if len([name for name in names if name not in {"self", "cls"}]) > POSITIONAL_MOST:
                yield f"def {node.name}"
        elif isinstance(node, ast.Call) and len(node.args) > POSITIONAL_MOST:
            yield f"{ast.unparse(node.func)}()"
        elif (
            isinstance(node, ast.Tuple | ast.List)
            and isinstance(node.ctx, ast.Store)
            and len(node.elts) > POSITIONAL_MOST
        ):
            yield f"{ast.unparse(node)} ="


def test_no_long_list_is_given_by_position() -> None:
    assert [f"{path.relative_to(ROOT)}: {what}" for path in SOURCES for what in long_lists(tree_of(path))] == []


def test_a_long_list_is_seen() -> None:
    code = "def f(self, a, b, c, d, e, g, *, h): ...\nf(1, 2, 3, 4, 5, 6, h=7)\na, b, c, d, e, f = g"
    assert sorted(long_lists(ast.parse(code))) == ["(a, b, c, d, e, f) =", "def f", "f()"]
    five = "def f(self, a, b, c, d, e, *, h): ...\nf(1, 2, 3, 4, 5, h=7)\na, b, c, d, e = g"
    assert list(long_lists(ast.parse(five))) == []


def names_of_types(tree: ast.Module) -> Iterator[str]:
    """Yield the name of each class and type alias. Type variables may have one name."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign) and not (
            isinstance(node.value, ast.Call) and ast.unparse(node.value.func) in {"TypeVar", "TypeVarTuple"}
        ):
            targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            yield from (name for name in names if re.fullmatch("_?[A-Z]+[a-z]\\w*", name))


def test_a_class_and_an_alias_of_any_form_are_seen() -> None:
    code = "class A: ...\nBc = int\nCd: TypeAlias = int\n_De = Ef = int\nValue = TypeVar('Value')\nMOST_S = 1"
    assert list(names_of_types(ast.parse(code))) == ["A", "Bc", "Cd", "_De", "Ef"]


# Types of one name, and why.
SHARED = {
    "Answer": "an answer in HTTP: bytes in the server, and what the simulator reads in them",
}
# Names of the client that others of us have, too. A user calls a job ``Job``, whatever the server calls so.
OF_BOTH_SIDES = {
    # One thing, as each side has it.
    *("BatchStatus", "Client", "Durability", "HeadwayError", "Job", "LogText", "Response", "Status", "Submission"),
    # Options of a job, and of a task. Changes that the audit log has, and those that the journal writes.
    *("Change", "Options"),
    # Words of one file or two on either side.
    *("Event", "Kind", "Members", "Moment", "Place", "Places", "Until"),
}


def test_no_two_types_have_one_name() -> None:
    """The client is for itself, and what it has in common with the server is named here."""
    ours: dict[str, list[str]] = {}
    of_client: dict[str, list[str]] = {}
    for folder in ("core", "protocol", "headway", "sim"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            found = of_client if path.is_relative_to(CLIENT) else ours
            for name in names_of_types(tree_of(path)):
                found.setdefault(name, []).append(str(path.relative_to(ROOT)))
    assert {name for name, paths in ours.items() if len(paths) > 1} == SHARED.keys()
    assert {name: paths for name, paths in of_client.items() if len(paths) > 1} == {}
    assert ours.keys() & of_client.keys() == OF_BOTH_SIDES
