"""Plain English, measured: semicolons, relative words and wide lines in documents and code.

A document counts without its code and its tables. A package counts with its docstrings, comments and messages.
"""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

from tests.each import each

ROOT = Path(__file__).parent.parent
# In 1,000 words a text has fewer semicolons and relative words than this.
SEMICOLONS, RELATIVES = 8, 10
# A text of fewer words than SHORT has at most this many.
SHORT, SHORT_SEMICOLONS, SHORT_RELATIVES = 300, 2, 3
# The columns of a line of prose and of a line of code.
PROSE, CODE = 100, 120


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of a text, or the most it may have."""

    semicolons: int
    relatives: int
    # Lines that are too wide.
    wide: int

    def within(self, most: Figures) -> bool:
        """Whether no figure is above that of ``most``."""
        return self.semicolons <= most.semicolons and self.relatives <= most.relatives and self.wide <= most.wide


@dataclass(frozen=True, slots=True)
class Text:
    """Prose, and the number of lines that are too wide."""

    prose: str
    wide: int

    @property
    def figures(self) -> Figures:
        """Return the counts of this text."""
        return Figures(self.prose.count(";"), len(RELATIVE.findall(self.prose)), self.wide)

    @property
    def limits(self) -> Figures:
        """Return the most that a text of this length may have."""
        words = len(WORD.findall(self.prose))
        if words < SHORT:
            return Figures(SHORT_SEMICOLONS, SHORT_RELATIVES, 0)
        return Figures(_below(SEMICOLONS * words), _below(RELATIVES * words), 0)


def _below(thousandths: int) -> int:
    """Return the largest whole number below ``thousandths`` ÷ 1,000."""
    return (thousandths - 1) // 1000


WORD = re.compile(r"[^\W\d_][\w'\u2019-]*")
RELATIVE = re.compile(r"\b(?:what|who|whom|whose)\b", re.IGNORECASE)
# Parts of a paragraph that are no prose: code, the target of a link, a comment of HTML.
INLINE = re.compile(r"(`+)(?:(?!\n\n).)*?(?<!`)\1(?!`)|(?<=\])\([^)\s]*\)|<!--.*?-->", re.DOTALL)
# The beginning of a string in SQL or Python.
PROGRAM = re.compile(r"\s*(?:(?:SELECT|INSERT|UPDATE|DELETE FROM|CREATE|BEGIN|PRAGMA)\b|import )")
# Comments for tools. ruff leaves them out of the width, too.
PRAGMA = re.compile(r"\s*# (?:noqa|type:|mypy:).*")


def prose(text: str) -> str:
    """Return ``text`` without its inline code."""
    return INLINE.sub(" ", text)


def document(text: str) -> Text:
    """Return the prose of a page of Markdown."""
    lines = list(_outside_of_code_and_tables(text))
    return Text(prose("\n".join(lines)), sum(len(line) > PROSE for line in lines))


def _outside_of_code_and_tables(text: str) -> Iterator[str]:
    fence, blank, indented = "", True, False
    for line in text.splitlines():
        mark = re.match(r" *(```+|~~~+)", line)
        if fence or mark:
            if mark and (not fence or mark[1] == fence):
                fence = "" if fence else mark[1]
            continue
        # Four spaces after a blank line begin a block of code. Within a paragraph they do not.
        indented = line.startswith("    ") and (blank or indented)
        blank = not line.strip()
        if not indented and not line.lstrip().startswith("|"):
            yield line


def commented(text: str) -> Text:
    """Return the comments of a page of YAML."""
    lines = text.splitlines()
    comments = [found[1] for line in lines if (found := re.search(r"(?:^|\s)#\s?(.*)", line))]
    wide = sum(len(line) > (PROSE if line.startswith("#") else CODE) for line in lines)
    return Text(prose("\n".join(comments)), wide)


def code(path: Path) -> Text:
    """Return the docstrings, comments and messages of a module."""
    source = path.read_text()
    with path.open("rb") as file:
        tokens = [token.string for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT]
    comments = [token.lstrip("#! ") for token in tokens if not PRAGMA.match(token)]
    texts = chain(comments, _strings(ast.parse(source)))
    wide = sum(len(PRAGMA.sub("", line)) > CODE for line in source.splitlines())
    return Text("\n\n".join(map(prose, texts)), wide)


def _strings(tree: ast.AST) -> Iterator[str]:
    """Yield the docstrings and messages: each string with a space in it that is no program."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr | ast.Constant)]
    parts = {part for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "1" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in parts:
            text = node.value
        else:
            continue
        if " " in text.strip() and not PROGRAM.match(text):
            yield text


def files() -> dict[str, list[Path]]:
    """Return the files of each text by name."""
    pages = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "config.yaml")]
    pages += sorted((ROOT / "docs").rglob("*.md"))
    found = {str(path.relative_to(ROOT)): [path] for path in pages}
    for package in ("core", "protocol", "headway", "sim"):
        for path in sorted((ROOT / package).rglob("*.py")):
            found.setdefault(str(path.parent.relative_to(ROOT)), []).append(path)
    return found


FILES = files()
READ = {".md": lambda path: document(path.read_text()), ".yaml": lambda path: commented(path.read_text()), ".py": code}


@cache
def text_of(name: str) -> Text:
    """Read a text. Collection only lists the files, since every worker collects."""
    parts = [READ[path.suffix](path) for path in FILES[name]]
    return Text("\n\n".join(part.prose for part in parts), sum(part.wide for part in parts))


@each("name", sorted(FILES))
def test_a_text_holds_the_limits(name: str) -> None:
    text = text_of(name)
    assert text.figures.within(text.limits), f"{name} has {text.figures}, at most {text.limits} are allowed"


def test_everything_is_measured() -> None:
    assert {"README.md", "docs/protocol.md", "docs/adr/0001-the-board.md", "config.yaml"} <= FILES.keys()
    assert all(
        any(name.split("/")[0] == package for name in FILES) for package in ("core", "protocol", "headway", "sim")
    )
    assert [name for name in FILES if not WORD.search(text_of(name).prose)] == []


PAGE = """\
# Who asks

A line; `code; who`, and [a link; what](who.md#what;).
<!-- who; -->

| a; table | who |
|---|---|

    code; who

- A thought; whose
    end is indented; it
    is prose; all of it.

```console
$ echo who; echo what
```
``a `what` b`` Whatever they say.
"""


def test_only_prose_counts_in_a_page() -> None:
    text = document(PAGE)
    assert text.figures == Figures(semicolons=5, relatives=3, wide=0)
    assert "code" not in text.prose
    assert "table" not in text.prose
    assert "echo" not in text.prose
    wide = "x" * (PROSE + 1)
    assert document(f"{wide[1:]}\n{wide}\n| {wide} |\n\n    {wide}\n\n```\n{wide}\n```\n").wide == 1


def test_docstrings_comments_and_messages_count_in_a_module(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        '"""Doc; who."""\n'
        "x = 1; y = 2  # comment; what\n"
        f"z = 3  # type: ignore[who; what]{'.' * CODE}\n"
        'SQL = "SELECT who; what"\n'
        'TWO = "BEGIN; DELETE FROM who"\n'
        'NAME = "who;"\n'
        'BYTES = b"who; what;"\n'
        'raise OSError(f"{x}: whom; {y} of {z}")\n'
        'log("DELETE is refused; whose")\n' + "#" * (CODE + 1) + "\n"
    )
    assert code(path).figures == Figures(semicolons=4, relatives=4, wide=1)


def test_comments_count_in_a_page_of_yaml() -> None:
    text = commented(f"# A page; who\nkey: a;b#c  # a value; what\n#{'x' * PROSE}\n{'k' * (PROSE - 1)}: 1\n")
    assert text.figures == Figures(semicolons=2, relatives=2, wide=1)
    assert "key" not in text.prose


@pytest.mark.parametrize(
    ("words", "semicolons", "relatives"), [(1, 2, 3), (299, 2, 3), (300, 2, 2), (1000, 7, 9), (1001, 8, 10)]
)
def test_the_limits_are_exact(words: int, semicolons: int, relatives: int) -> None:
    assert Text("word " * words, 0).limits == Figures(semicolons, relatives, 0)
    text = Text("word " * words + ";" * semicolons, 0)
    assert text.figures.within(text.limits)
    assert not Text(text.prose + ";", 0).figures.within(text.limits)
