"""docs/reference.md: the names that users import, from their signatures, docstrings and comments."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import headway
from headway import client, otel, testing

PAGE = Path(__file__).with_name("reference.md")
HEAD = """\
# API reference

<!-- Written by `make docs` from the code. -->

The names that you import. [Tasks](tasks.md), [the client](client.md) and [tests](testing.md) have
pages that explain them.
"""
# The parts of the page: a module, its heading, and the names in it.
CLIENTS = ["Client", "AsyncClient"]
PARTS: list[tuple[ModuleType, str, list[str]]] = [
    (headway, "Tasks: `headway`", [name for name in headway.__all__ if name not in CLIENTS]),
    (client, "Client: `headway.client`", [*CLIENTS, *(name for name in client.__all__ if name not in CLIENTS)]),
    (otel, "Traces: `headway.otel`", ["child_span", "span"]),
    (testing, "Tests: `headway.testing`", testing.__all__),
]
# Public for other modules of ours, and no concern of a user.
HIDDEN = {
    "Client.run",
    "Client.iterate",
    "AsyncClient.run",
    "AsyncClient.iterate",
    "Context.close",
    "Submission.members",
    "Submission.options",
}
# Classes whose objects come from a call, not from their constructor.
GIVEN = {"AsyncBatch", "AsyncJob", "Batch", "Context", "Job", "Response"}
COLUMNS = 96
Function = ast.FunctionDef | ast.AsyncFunctionDef


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    for module, heading, names in PARTS:
        parts.append(f"\n## {heading}\n")
        for name in names:
            parts += _entry(name, getattr(module, name))
    return "".join(parts)


def _entry(name: str, found: object) -> Iterator[str]:
    """Yield the text of one name."""
    assert inspect.isclass(found) or inspect.isfunction(found)
    home = sys.modules[found.__module__]
    source = inspect.getsource(home)
    nodes = [node for node in ast.parse(source).body if getattr(node, "name", "") == name]
    yield f"\n### {name}\n"
    node = nodes[-1]
    if isinstance(node, ast.ClassDef):
        yield from _class(node, source.splitlines(), home)
    else:
        # The last overload has all parameters.
        shown = nodes[-2] if len(nodes) > 1 else node
        assert isinstance(node, Function)
        assert isinstance(shown, Function)
        yield _code(_signature(name, shown, home))
        yield _prose(ast.get_docstring(node))


def _class(node: ast.ClassDef, lines: list[str], home: ModuleType) -> Iterator[str]:
    methods = [item for item in node.body if isinstance(item, Function)]
    begin = next((method for method in methods if method.name == "__init__"), None)
    if begin is not None and node.name not in GIVEN:
        yield _code(_signature(node.name, begin, home, method=True, returns=False))
    yield _prose(ast.get_docstring(node))
    properties = [method for method in methods if _is_property(method)]
    items = [*_fields(node, lines), *_attributes(begin, lines)]
    items += [([method.name], ast.get_docstring(method) or "") for method in properties]
    for names, told in items:
        listed = ", ".join(f"`{name}`" for name in names)
        text = _ticks(f"- {listed}: {' '.join(told.split())}" if told else f"- {listed}")
        yield f"\n{_fill(text, '  ')}\n"
    for method in methods:
        name = f"{node.name}.{method.name}"
        shown = not method.name.startswith("_") and method not in properties and name not in HIDDEN
        if shown and not _has(method, "overload"):
            yield f"\n#### {name}\n"
            yield _code(_signature(method.name, method, home, method=True))
            yield _prose(ast.get_docstring(method))


def _is_property(method: Function) -> bool:
    return _has(method, "property")


def _has(method: Function, name: str) -> bool:
    return any(ast.unparse(decorator) == name for decorator in method.decorator_list)


def _fields(node: ast.ClassDef, lines: list[str]) -> Iterator[tuple[list[str], str]]:
    """Yield each field of a dataclass, a TypedDict or a str with its comment."""
    if node.decorator_list or any(ast.unparse(base) in {"TypedDict", "str"} for base in node.bases):
        for item in node.body:
            if isinstance(item, ast.AnnAssign):
                yield [ast.unparse(item.target)], _comment_above(lines, item.lineno)


def _attributes(begin: Function | None, lines: list[str]) -> Iterator[tuple[list[str], str]]:
    """Yield the attributes that have a comment. One comment may stand above several."""
    names: list[str] = []
    told = ""
    for item in begin.body if begin else []:
        target = item.targets[0] if isinstance(item, ast.Assign) else getattr(item, "target", None)
        name = ast.unparse(target).removeprefix("self.") if isinstance(target, ast.Attribute) else ""
        if not name or name.startswith("_"):
            continue
        if comment := _comment_above(lines, item.lineno):
            if told:
                yield names, told
            names, told = [name], comment
        elif told:
            names.append(name)
    if told:
        yield names, told


def _comment_above(lines: list[str], number: int) -> str:
    found: list[str] = []
    while (line := lines[number - 2 - len(found)].strip()).startswith("# "):
        found.append(line[2:])
    return " ".join(reversed(found))


def _signature(name: str, function: Function, home: ModuleType, *, method: bool = False, returns: bool = True) -> str:
    parameters = list(_parameters(function.args, home))[method:]
    result = f" -> {ast.unparse(function.returns)}" if returns and function.returns else ""
    begin = "async " if isinstance(function, ast.AsyncFunctionDef) else ""
    text = f"{begin}{name}({', '.join(parameters)}){result}"
    if len(text) <= COLUMNS:
        return text
    return f"{begin}{name}(\n" + "".join(f"    {part},\n" for part in parameters) + f"){result}"


def _parameters(arguments: ast.arguments, home: ModuleType) -> Iterator[str]:
    """Yield each parameter. A default that is a constant of the module is shown by its value."""
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + arguments.defaults
    for argument, default in zip(plain, defaults, strict=True):
        yield _parameter(argument, default, home)
    if arguments.vararg:
        yield f"*{_parameter(arguments.vararg, None, home)}"
    elif arguments.kwonlyargs:
        yield "*"
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _parameter(argument, default, home)
    if arguments.kwarg:
        yield f"**{_parameter(arguments.kwarg, None, home)}"


def _parameter(argument: ast.arg, default: ast.expr | None, home: ModuleType) -> str:
    shown = argument.arg + (f": {ast.unparse(argument.annotation)}" if argument.annotation else "")
    if default is None:
        return shown
    value = getattr(home, default.id, default) if isinstance(default, ast.Name) else default
    return f"{shown} = {ast.unparse(default) if isinstance(value, ast.expr | type) else repr(value)}"


def _code(text: str) -> str:
    return f"\n```python\n{text}\n```\n"


def _ticks(text: str) -> str:
    return text.replace("``", "`")


def _fill(text: str, indent: str = "") -> str:
    return textwrap.fill(text, COLUMNS, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _prose(docstring: str | None) -> str:
    """Return a docstring as Markdown: lines that begin with a name and a colon are a list."""
    parts = []
    for paragraph in (docstring or "").split("\n\n"):
        for item in re.split(r"\n(?=``\w+``: )", paragraph):
            named = re.match(r"``\w+``: ", item)
            text = _ticks(" ".join(item.split()))
            parts.append(_fill(f"- {text}", "  ") if named else _fill(text))
    return "".join(f"\n{part}\n" for part in parts if part)
