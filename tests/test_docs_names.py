"""A name in backticks, in a page, a docstring or a comment, is one that the code has."""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path

from headway.core.config import Config
from headway.core.order import OWN_TASKS

from tests.each import each
from tests.test_docs import PAGES, settings

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "tests"
CODE = ("core", "protocol", "headway", "sim", "bench", "examples", "release", "docs", ".ci")
FILES = sorted(
    path
    for path in [*ROOT.glob("*"), *(path for folder in (*CODE, "tests") for path in (ROOT / folder).rglob("*"))]
    if path.is_file() and not {"__pycache__", "results"} & set(path.parts)
)
# With the suffix of a file a name with a dot is the name of a file.
SUFFIXES = ("db", "jsonl", "lua", "py", "rdb", "txt", "yaml")
# Names of other programs.
FOREIGN = {
    *("BGSAVE", "HEADWAY_SERVICE_HOST", "HTTPAdapter", "LOCAL", "NetworkPolicy", "ProcessPoolExecutor", "UNSPEC"),
    *("_HEADWAY_COMPLETE", "max_user_watches", "somaxconn", "sqlite3_step", "task_acks_late"),
}
# A logger, wherever it is.
LOGGER = "log"
PACKAGES = (["headway", "core"], ["headway", "protocol"], ["headway", "sim"])
NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*(?=$|\()")
# A section, or a setting with its section.
SETTINGS = {
    name[:end] for name, _ in settings(Config()) for end in [*(dot.start() for dot in re.finditer(r"\.", name)), None]
}
METRIC = re.compile("(?:headway|process|python)_[a-z_]+")
# tests/test_monitoring.py sees that these are all, and that they are there.
METRICS = set(METRIC.findall((ROOT / "docs/monitoring.md").read_text()))


@dataclass
class Code:
    """What the code names: words, texts, and the members of classes and modules by the last name of their owner."""

    words: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    members: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    bases: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def has(self, owner: str, member: str) -> bool:
        """Whether a class, a base of it, or a module has a member."""
        return member in self.members[owner] or any(self.has(base, member) for base in self.bases[owner] - {owner})


def words_of(node: ast.AST) -> Iterator[str]:
    """Return the names that a node of the syntax has itself."""
    for name in ("id", "attr", "arg", "name", "asname", "module"):
        word = getattr(node, name, None)
        if isinstance(word, str):
            yield from word.split(".")


def bound(tree: ast.AST) -> Iterator[str]:
    """Return all names that are given to something in ``tree``, and the words of its texts, as of ``__slots__``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and not isinstance(node.ctx, ast.Store):
            continue
        yield from words_of(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            yield node.value


@lru_cache(1)
def code() -> Code:
    """Read the code."""
    found = Code()
    for path in FILES:
        found.words.update(re.findall(r"\w+", str(path.relative_to(ROOT))))
        if path.suffix == ".py" and TESTS not in path.parents:
            _read(found, path)
        elif path.suffix in {".lua", ".yaml", ".yml", ".toml", ".js", ""}:
            found.words.update(re.findall(r"[A-Za-z_]\w*", path.read_text(errors="replace")))
    return found


def _read(found: Code, path: Path) -> None:
    tree = ast.parse(path.read_text())
    # A text that stands alone is a docstring.
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        found.words.update(words_of(node))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            found.words.update(re.findall(r"[A-Za-z_]\w*", node.value))
            found.texts.add(node.value)
        elif isinstance(node, ast.ClassDef):
            found.members[node.name].update(bound(node))
            found.bases[node.name].update(
                re.split(r"[\[(]", ast.unparse(base))[0].split(".")[-1] for base in node.bases
            )
    found.members[path.parent.name if path.stem == "__init__" else path.stem].update(bound(tree))


def is_unknown(quoted: str) -> bool:
    """Whether ``quoted`` is the name, or the call, of a thing that the code does not have."""
    matched = NAME.match(quoted)
    if matched is None or (matched[0].islower() and matched[0].isalpha()):
        return False
    # Others with such a beginning are files and packages.
    if METRIC.fullmatch(matched[0]) and matched[0] not in code().words:
        return matched[0] not in METRICS
    parts = matched[0].split(".")
    if matched[0] in SETTINGS | OWN_TASKS.keys() | code().texts or FOREIGN & set(parts) or parts[-1] in SUFFIXES:
        return False
    first, *others = parts = inside(parts)
    if not others:
        return first not in code().words
    return any(is_wrong(owner, member) for owner, member in pairwise(parts) if not is_pythons(owner, member))


def inside(parts: list[str]) -> list[str]:
    """Return a dotted name from the last package or module on."""
    place, rest = ROOT, parts[1:] if parts[:2] in PACKAGES else parts
    while rest and ((place / rest[0]).is_dir() or (place / f"{rest[0]}.py").is_file()):
        place, rest = place / rest[0], rest[1:]
    return parts if place == ROOT else [place.name, *rest]


def is_pythons(owner: str, member: str) -> bool:
    """Whether a module of Python has such a member."""
    return owner in sys.stdlib_module_names and hasattr(import_module(owner), member)


def is_wrong(owner: str, member: str) -> bool:
    """Whether ``owner`` is a class, a module, or an object named as both, and has no such member."""
    if owner == LOGGER or owner not in code().members:
        return member not in code().words
    return not any(code().has(name, member) for name in (owner, owner.capitalize()))


@each("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_what_is_there(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert [quoted for quoted in re.findall(r"`([^`\n]+)`", prose) if is_unknown(quoted)] == []


@each("folder", CODE)
def test_docstrings_and_comments_name_what_is_there(folder: str) -> None:
    for path in FILES:
        if path.suffix == ".py" and ROOT / folder in path.parents:
            quoted = re.findall(r"``([^`\n]+)``", path.read_text())
            assert [name for name in quoted if is_unknown(name)] == [], path


@each("folder", CODE)
def test_docstrings_and_comments_name_files_that_are_there(folder: str) -> None:
    """By their place from the root, decisions by their number."""
    for path in FILES:
        if path.suffix == ".py" and ROOT / folder in path.parents:
            named = re.findall(r"\b(?:core|protocol|headway|sim|docs)/[\w/.]*\w\.(?:py|md|lua)\b", path.read_text())
            named += re.findall(r"\bdocs/adr/\d{4}", path.read_text())
            assert [name for name in named if not list(ROOT.glob(f"{name}*"))] == [], path


def test_a_name_that_is_not_there_is_seen() -> None:
    for name in ("_try_again_or_fail", "Active.settled", "outcomes.word", "core.job.steps", "retention.cancelled.job"):
        assert is_unknown(name), name
    for name in ("Active.decide", "outcomes.batch_number", "core.job.MOVES", "retention.cancelled.jobs", "a + b"):
        assert not is_unknown(name), name
