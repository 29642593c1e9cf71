"""Tests go by the public face: they read no private member, and replace nothing of ours but what is named as a seam.

A seam is a place where a fault is put in. It has a comment ``# Seam:`` in the code, and stands in SEAMS.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from tests.each import each

ROOT = Path(__file__).parent.parent
TESTS = sorted((ROOT / "tests").rglob("*.py"))
OURS = ("core", "protocol", "sim")
SEAMS = {
    "bench.queues.catalogue.BUNQUEUE_FOLDER",
    "bench.soak.summary.LONG_LIFE_S",
    "bench.soak.summary.WARM_UPS",
    "bench.soak.summary.WARM_UP_S",
    "headway.core.journal.schema.NUMBERS_A_SECOND",
    "headway.core.journal.schema.SKIP",
    "headway.core.journal.watermark.Mark",
    "headway.core.journal.writer_link.WriterLink.module",
    "headway.core.nodes.outbox.BYTES_MOST",
    "headway.core.nodes.outbox.FINISHES_MOST",
    "headway.core.tasks.encoding.SLICE_WEIGHT",
    "headway.sim.client.RETRY_S",
}
# Of a named tuple.
PUBLIC = {"_asdict", "_field_defaults", "_fields", "_make", "_replace"}
# Python's own, where it has no public name for it. asyncio does not tell how long a callback took.
PYTHONS = {"os._exit", "sys._getframe", "events.Handle._run", "threading._shutdown", "atexit._run_exitfuncs"}
# Calls that take an object and the name of an attribute.
BY_NAME = {"getattr", "hasattr", "setattr", "delattr", "object"}
REPLACING = {"setattr", "delattr", "setitem", "delitem", "object", "dict", "multiple", "patch"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name not in PUBLIC


def text_of(node: ast.AST) -> str:
    """Return the text of a constant, empty if it is none."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def name_of(call: ast.Call) -> str:
    """Return the last name of the function that is called."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


Nodes = Sequence[ast.AST]


@lru_cache(1)
def nodes_of(text: str) -> Nodes:
    """Return all nodes of a file. Four functions look at them, one file after the other."""
    return tuple(ast.walk(ast.parse(text)))


def private(text: str) -> Iterator[str]:
    """Return the private members that a file reads or sets, of anything but ``self`` and ``cls``."""
    for node in nodes_of(text):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            own = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
            if not own and ast.unparse(node) not in PYTHONS:
                yield ast.unparse(node)
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names if is_private(alias.name))
        elif isinstance(node, ast.Call) and name_of(node) in BY_NAME | {"attrgetter", "methodcaller"}:
            for argument in node.args[:2]:
                names = text_of(argument).split(".")
                if any(map(is_private, names)) and f"{ast.unparse(node.args[0])}.{names[-1]}" not in PYTHONS:
                    yield ast.unparse(node)


def imported(nodes: Nodes) -> dict[str, str]:
    """Return the names that a file imports, with what each stands for."""
    found: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.asname or alias.name.partition(".")[0]: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def targets(node: ast.AST) -> Iterator[ast.expr]:
    """Return all that an assignment sets."""
    if isinstance(node, ast.Assign | ast.Delete):
        found = list(node.targets)
    elif isinstance(node, ast.AugAssign | ast.AnnAssign):
        found = [node.target]
    else:
        return
    for target in found:
        yield from target.elts if isinstance(target, ast.Tuple | ast.List) else [target]


def replaced(text: str) -> Iterator[str]:
    """Return the full names of all that a file replaces: of an import, or ``? …`` where it is none of the file's."""
    nodes, lines = nodes_of(text), text.splitlines()
    names = imported(nodes)

    def full(node: ast.AST) -> str:
        root, _, rest = ast.unparse(node).partition(".")
        return ".".join([names.get(root, f"? {root}"), *([rest] if rest else [])])

    for node in nodes:
        if isinstance(node, ast.Call) and name_of(node) in REPLACING and ast.unparse(node.func) != "dict" and node.args:
            first, *others = node.args
            if text_of(first):
                yield text_of(first)
            elif name_of(node) in {"setattr", "delattr", "object"}:
                yield f"{full(first)}.{text_of(others[0]) or '?'}"
            else:
                yield full(first)
        for target in targets(node):
            # An item of a table is set, or an attribute.
            part = target.value if isinstance(target, ast.Subscript) else target
            if isinstance(part, ast.Attribute | ast.Name):
                found = full(part)
                # Of a class or module. Of a method that is set on an object mypy has to be told.
                if not found.startswith("? ") or "method-assign" in lines[part.lineno - 1]:
                    yield found


def is_allowed(name: str) -> bool:
    """Whether tests may replace it: a seam, or nothing of ours."""
    if any(name == seam or name.startswith(f"{seam}.") for seam in SEAMS):
        return True
    return not name.startswith(("headway.", "bench.", "? "))


@each("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_test_reads_nothing_private_and_replaces_nothing_but_seams(path: Path) -> None:
    text = path.read_text()
    assert list(private(text)) == []
    assert [name for name in replaced(text) if not is_allowed(name)] == []


def test_each_seam_is_named_in_the_code() -> None:
    found = set()
    for folder in (*OURS, "bench"):
        for path in (ROOT / folder).rglob("*.py"):
            ours = ["headway"] if folder in OURS else []
            module = ".".join([*ours, *path.relative_to(ROOT).with_suffix("").parts])
            for name in re.findall(r"^ *# Seam: .*\n(?: *#.*\n)*(?: *class )? *(\w+)", path.read_text(), re.MULTILINE):
                found.add(f"{module}.{name}")
    assert found == {seam.replace(".WriterLink.", ".") for seam in SEAMS}


HEAD = "from headway.core.journal import schema\nfrom headway.core.journal.writer_link import WriterLink\nimport os\n"


@each(
    "text",
    [
        "engine._chores()",
        "engine.active._x = 1",
        "super()._read()",
        "getattr(engine, '_chores')",
        "operator.attrgetter('active._x')(engine)",
        "from headway.core.open import _open",
        "monkeypatch.setattr(schema, 'VERSION', 5)",
        "monkeypatch.setattr(f'headway.core.{name}', 5)",
        "monkeypatch.setattr('headway.core.ids.new', 5)",
        "monkeypatch.setattr(engine, 'submit', None)",
        "monkeypatch.setattr(WriterLink, 'send', None)",
        "monkeypatch.setattr(WriterLink, name, None)",
        "monkeypatch.setitem(schema.MIGRATIONS, 4, '')",
        "patch('headway.core.ids.new')",
        "patch.object(schema, 'VERSION', 5)",
        "patch.dict(schema.MIGRATIONS, {4: ''})",
        "setattr(WriterLink, name, None)",
        "schema.VERSION = 5",
        "schema.MIGRATIONS[4] = ''",
        "before, WriterLink.send = WriterLink.send, None",
        "engine.submit = None  # type: ignore[method-assign]",
    ],
)
def test_what_is_private_or_replaced_is_found(text: str) -> None:
    found = [*private(HEAD + text), *(name for name in replaced(HEAD + text) if not is_allowed(name))]
    assert found != []


@each(
    "text",
    [
        "self._chores()",
        "named._replace(a=1)",
        "os._exit(1)",
        "engine.chores.clear()",
        "board.next_sequence = 5",
        "monkeypatch.setattr(os, 'write', None)",
        "monkeypatch.setattr('time.monotonic', None)",
        "monkeypatch.setattr(WriterLink, 'module', 'one')",
        "patch.dict(os.environ, {})",
        "WriterLink.module = 'one'",
        "os.fsync = None",
    ],
)
def test_all_else_is_allowed(text: str) -> None:
    found = [*private(HEAD + text), *(name for name in replaced(HEAD + text) if not is_allowed(name))]
    assert found == []
