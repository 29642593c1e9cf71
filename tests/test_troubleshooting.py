"""docs/troubleshooting.md has each refusal and each warning and error of the log, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/troubleshooting.md").read_text()
PROTOCOL = (ROOT / "docs/protocol.md").read_text()
LEVELS = {"warning", "error", "exception", "critical"}
# The lines that these yield are logged.
YIELDING = {"check.exposures": "protocol/check.py", "remarks": "protocol/process/tls.py"}
# The text of a line that comes from a call, and the place of that text.
CALLED = {
    "beyond_loopback": "protocol/check.py",
    "exposed_key": "protocol/process/tls.py",
    "invalid_now": "protocol/process/tls.py",
    "too_open": "protocol/access/tokens.py",
    "emptied": "protocol/access/tokens.py",
}


def rows(heading: str) -> list[list[str]]:
    """The rows of the table below ``heading``."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = re.findall(r"^\| (.+) \|$", section, re.MULTILINE)[1:]
    return [[cell.strip() for cell in re.split(r" \| ", line)] for line in lines]


def test_each_refusal_has_a_remedy() -> None:
    documented = re.findall(r"^\| (\d{3}) \| `([\w-]+)` \|", PROTOCOL, re.MULTILINE)
    assert len(documented) > 25
    told = rows("Refusals")
    assert sorted((code, reason.strip("`")) for code, reason, _ in told) == sorted(documented)
    assert [reason for _, reason, remedy in told if len(remedy) < 10] == []


def test_each_warning_and_error_of_the_log_has_a_remedy() -> None:
    told = rows("Lines of the log")
    assert {line.strip("`"): level for line, level, _ in told} == dict(lines())
    assert len({line for line, *_ in told}) == len(told), "a line stands twice"
    assert [line for line, _, remedy in told if len(remedy) < 10] == []


def lines() -> Iterator[tuple[str, str]]:
    """Each line of the log at warning or above, with its level. Values are …, and of a text the first line counts."""
    for folder in ("core", "protocol", "headway", "sim"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                if isinstance(node, ast.Call):
                    yield from logged(node, tree)


def logged(call: ast.Call, tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The line and the level of a call that logs."""
    called = ast.unparse(call.func)
    if re.fullmatch(r"log\.(\w+)", called) and called[4:] in LEVELS:
        level = {"exception": "error"}.get(called[4:], called[4:])
        for text in texts(call.args[0], tree):
            if text == "…":
                # A record that is made of others: what was passed on has its own line.
                continue
            yield text, level
    # Records that are made by hand.
    elif called == "log.makeRecord" and ast.unparse(call.args[1]) == "logging.WARNING":
        (message,) = (keyword.value for keyword in call.keywords if keyword.arg == "msg")
        yield from ((found, "warning") for found in texts(message, tree))
    elif called == "_record" and ast.unparse(call.args[0]) in ("logging.WARNING", "logging.ERROR"):
        level = ast.unparse(call.args[0]).rpartition(".")[2].lower()
        yield from ((found, level) for found in texts(call.args[1], tree) if found != "…")
    elif called == "_tell" and len(call.args) == 2:
        yield from ((found, "error") for found in texts(call.args[0], tree))


def texts(node: ast.expr, tree: ast.Module) -> Iterator[str]:
    """The texts that an expression may be."""
    if isinstance(node, ast.Constant):
        yield plain(str(node.value))
    elif isinstance(node, ast.JoinedStr):
        yield plain("".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values))
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from texts(value, tree)
    elif isinstance(node, ast.Name):
        for item in ast.walk(tree):
            yield from named(node.id, item, tree)
    elif isinstance(node, ast.Attribute) and ast.unparse(node) == "check.NO_TASKS":
        yield from texts(ast.Name("NO_TASKS"), ast.parse((ROOT / "protocol/check.py").read_text()))
    elif isinstance(node, ast.Call):
        name = ast.unparse(node.func).rpartition(".")[2]
        other = ast.parse((ROOT / CALLED[name]).read_text())
        (function,) = (item for item in other.body if isinstance(item, ast.FunctionDef) and item.name == name)
        returned = function.body[-1]
        assert isinstance(returned, ast.Return)
        assert returned.value
        yield from texts(returned.value, other)
    elif not isinstance(node, ast.Attribute):
        raise AssertionError(f"the text of {ast.unparse(node)} is not known")


def named(name: str, item: ast.AST, tree: ast.Module) -> Iterator[str]:
    """The texts that have this name by an assignment, or by a loop over a generator of lines."""
    if isinstance(item, ast.Assign) and ast.unparse(item.targets[0]) == name:
        yield from texts(item.value, tree)
    elif isinstance(item, ast.For) and ast.unparse(item.target) == name and isinstance(item.iter, ast.Call):
        yield from yielded(ast.unparse(item.iter.func))


def yielded(name: str) -> Iterator[str]:
    """The texts of the calls that lines come from, in a generator of lines."""
    tree = ast.parse((ROOT / YIELDING[name]).read_text())
    (generator,) = (
        item for item in tree.body if isinstance(item, ast.FunctionDef) and item.name == name.rpartition(".")[2]
    )
    for call in ast.walk(generator):
        if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] in CALLED:
            yield from texts(call, tree)


def plain(text: str) -> str:
    """The first line of a text, its values as ``…``."""
    return re.sub(r"%[.\d]*[a-z]", "…", text.partition("\n")[0])
