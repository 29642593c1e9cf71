"""Imports go one way, and the files are what the packages say they are."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What each folder may import of ours.
ALLOWED = {
    "core": {"headway.core"},
    "protocol": {"headway.core", "headway.protocol"},
    "sim": {"headway.sim"},
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


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


@pytest.mark.parametrize("folder", [*ALLOWED, "core/journal"])
def test_each_file_stands_in_the_reading_order_of_its_package(folder: str) -> None:
    order = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text())) or ""
    files = {path.stem for path in (ROOT / folder).glob("*.py")} - {"__init__"}
    assert [name for name in sorted(files) if f"``{name}``" not in order] == []


def test_core_has_no_socket_and_no_parser() -> None:
    names = {name.split(".")[0] for path in (ROOT / "core").rglob("*.py") for name in imports(path)}
    assert names.isdisjoint({"socket", "http", "httptools", "uvloop", "prometheus_client"})
