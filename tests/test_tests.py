"""Tests go by the public face: they read no private member, and replace nothing of ours but what is named as a seam.

A seam is a place where a fault is put in. It has a comment ``# Seam:`` in the code, and stands in SEAMS.
"""

import ast
import copy
import re
from collections.abc import Callable, Iterator, Sequence
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
    "headway.core.forks.forked",
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
# Of a dict.
CHANGING = {"__setitem__", "clear", "pop", "popitem", "setdefault", "update"}
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


def is_ours(name: str) -> bool:
    """Whether a full name is that of a class or a module of ours."""
    last = name.rpartition(".")[2]
    return name.startswith(("headway.", "bench.")) and (last.islower() or re.match("_?[A-Z]+[a-z]", last) is not None)


# Stands for a class or module of ours that a file does not name.
SOME = "headway.some"
# Annotations of parameters that stand for one.
CLASSES = r"(type|ModuleType|types\.ModuleType)\b"


def assigned(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST | None]]:
    """Yield each target of an assignment or a loop, with each value that it gets."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                yield from zip(target.elts, node.value.elts, strict=False)
            else:
                yield target, node.value
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
        yield node.target, node.value
    elif isinstance(node, ast.For | ast.comprehension) and isinstance(node.iter, ast.Tuple | ast.List):
        yield from ((node.target, value) for value in node.iter.elts)


def aliases(nodes: Nodes, names: dict[str, str]) -> dict[str, str]:
    """Return the locals and parameters that stand for a class or module of ours, with what each stands for."""
    found: dict[str, str] = {}
    for node in nodes:
        for target, value in assigned(node):
            if isinstance(target, ast.Name) and isinstance(value, ast.Name | ast.Attribute):
                root, _, rest = ast.unparse(value).partition(".")
                name = f"{names.get(root, '')}.{rest}".rstrip(".")
                if is_ours(name):
                    found[target.id] = name
        if isinstance(node, ast.arg) and re.match(CLASSES, ast.unparse(node.annotation) if node.annotation else ""):
            found[node.arg] = SOME
    return found


def space_of(node: ast.AST) -> ast.AST | None:
    """Return ``x`` of ``vars(x)`` and ``x.__dict__``, None for all else."""
    if isinstance(node, ast.Call) and name_of(node) == "vars" and len(node.args) == 1:
        return node.args[0]
    return node.value if isinstance(node, ast.Attribute) and node.attr == "__dict__" else None


class Named(ast.NodeTransformer):
    """Says of an expression in full names what it is about, whichever way it names that."""

    def __init__(self, others: dict[str, str]) -> None:
        self._others = others

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """A local stands for what it was assigned."""
        return ast.Name(self._others.get(node.id, node.id))

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """``x.__class__`` may be of ours."""
        return ast.Name(SOME) if node.attr == "__class__" else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """``type(x)`` and ``import_module(name)`` may be of ours."""
        return ast.Name(SOME) if name_of(node) in {"type", "import_module", "__import__"} else self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """``vars(x)[name]`` and ``x.__dict__[name]`` are attributes, and so is what ``sys.modules`` has."""
        whole = node.value
        if ast.unparse(whole) == "sys.modules":
            return ast.Name(text_of(node.slice) or SOME)
        space = space_of(whole)
        if space is not None:
            return ast.Attribute(self.visit(space), text_of(node.slice) or "?")
        return self.generic_visit(node)


def full_names(nodes: Nodes) -> Callable[[ast.AST], str]:
    """Return a function that gives the full name of what an expression of a file is about, or ``? …``."""
    names = imported(nodes)
    named = Named(aliases(nodes, names))
    names |= {"headway": "headway", "bench": "bench"}

    def full(node: ast.AST) -> str:
        # A name that is set is itself, whatever it stood for.
        is_set = isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
        whole = node if is_set else named.visit(copy.deepcopy(node))
        root, _, rest = ast.unparse(whole).partition(".")
        return ".".join([names.get(root, f"? {root}"), *([rest] if rest else [])])

    return full


def replaced_by(call: ast.Call, full: Callable[[ast.AST], str]) -> Iterator[str]:
    """Return the full names of what a call replaces, as ``replaced`` does."""
    if name_of(call) in REPLACING and ast.unparse(call.func) != "dict" and call.args:
        first, *others = call.args
        if text_of(first):
            yield text_of(first)
        elif name_of(call) in {"setattr", "delattr", "object"}:
            yield f"{full(first)}.{text_of(others[0]) or '?'}"
        else:
            yield full(first)
    if isinstance(call.func, ast.Attribute) and call.func.attr in CHANGING:
        space = space_of(call.func.value)
        if space is not None and not full(space).startswith("? "):
            yield full(space)


def replaced(text: str) -> Iterator[str]:
    """Return the full names of all that a file replaces: of an import, or ``? …`` where it is none of the file's."""
    nodes, lines = nodes_of(text), text.splitlines()
    full = full_names(nodes)
    for node in nodes:
        if isinstance(node, ast.Call):
            yield from replaced_by(node, full)
        for target in targets(node):
            part = target
            if isinstance(target, ast.Subscript) and space_of(target.value) is None:
                # An item of a table is set, not an attribute.
                part = target.value
            found = full(part)
            # Of a class or module. Of a method that is set on an object mypy has to be told.
            if not found.startswith("? ") or "method-assign" in lines[target.lineno - 1]:
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
        "cls = WriterLink; cls.send = None",
        "before, cls = 1, WriterLink; cls.send = None",
        "module: object = schema; module.MIGRATIONS[4] = ''",
        "for cls in (WriterLink, int): cls.send = None",
        "def replace(cls: type[WriterLink]) -> None: cls.send = None",
        "type(link).send = None",
        "link.__class__.send = None",
        "vars(WriterLink)['send'] = None",
        "vars(schema)[name] = None",
        "WriterLink.__dict__['send'] = None",
        "vars(schema).update(VERSION=5)",
        "WriterLink.__dict__.update(send=None)",
        "import sys; sys.modules['headway.core.journal.schema'].VERSION = 5",
        "import sys; vars(sys.modules['headway.core.journal.schema'])['VERSION'] = 5",
        "import importlib; importlib.import_module(name).VERSION = 5",
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
        "cls = WriterLink; cls.module = 'one'",
        "link = WriterLink(); link.bytes = 5",
        "vars(error)['seconds'] = 1.5",
        "record.__dict__.update(brought)",
        "os.fsync = None",
    ],
)
def test_all_else_is_allowed(text: str) -> None:
    found = [*private(HEAD + text), *(name for name in replaced(HEAD + text) if not is_allowed(name))]
    assert found == []
