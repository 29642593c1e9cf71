"""The pages that are generated are those of today, and the site has every page."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
from headway.core.config import Config
from markdown_it import MarkdownIt

import headway
from docs import site
from headway import client, testing

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(DOCS)) for path in DOCS.glob("*.md")} | {"adr/index.md"}
SETTINGS = (DOCS / "settings.md").read_text()
REFERENCE = (DOCS / "reference.md").read_text()


@pytest.mark.parametrize("generated", site.GENERATED, ids=lambda module: module.PAGE.name)
def test_a_generated_page_is_that_of_the_code(generated: ModuleType) -> None:
    """If it is not, ``make docs`` writes it."""
    assert generated.PAGE.read_text() == generated.page()


def names(section: msgspec.Struct, prefix: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(section):
        value = getattr(section, field.name)
        if isinstance(value, msgspec.Struct):
            yield from names(value, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


def test_each_setting_has_a_row_with_meaning_default_and_values() -> None:
    rows = dict(re.findall(r"^\| `([\w.]+)` \| (.+ \| .+ \| .+) \|$", SETTINGS, re.MULTILINE))
    assert set(rows) == set(names(Config()))
    assert "`8080` | a whole number from 0 to 65535" in rows["server.port"]
    assert "`full` | one of full, normal" in rows["journal.sync"]


@pytest.mark.parametrize("names", [headway.__all__, client.__all__, testing.__all__])
def test_each_public_name_is_in_the_reference(names: list[str]) -> None:
    assert [name for name in names if f"\n### {name}\n" not in REFERENCE] == []


def test_the_reference_has_signatures_text_and_attributes() -> None:
    assert "    payload: object = None,\n    *,\n    media_type: str | None = None,\n" in REFERENCE
    assert "async result(timeout: float | None = None) -> Any\n" in REFERENCE
    assert "- `percents`" not in REFERENCE
    assert "- `attempt`: 1 for the first attempt.\n" in REFERENCE


def navigation(entries: list[dict[str, object]]) -> Iterator[str]:
    for entry in entries:
        for target in entry.values():
            if isinstance(target, list):
                yield from navigation(target)
            else:
                yield str(target)


def test_each_page_is_in_the_navigation_once() -> None:
    found = list(navigation(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))
    assert sorted(found) == sorted(PAGES)


def test_the_first_page_lists_each_other_page() -> None:
    linked = set(re.findall(r"\]\(([\w/]+\.md)\)", (DOCS / "index.md").read_text()))
    assert linked == PAGES - {"index.md"}


def test_a_file_from_outside_is_copied_beside_the_pages(tmp_path: Path) -> None:
    site.collect(tmp_path)
    assert (tmp_path / "files/examples/tasks.py").read_bytes() == (ROOT / "examples/tasks.py").read_bytes()
    assert "](files/examples/tasks.py)" in (tmp_path / "tasks.md").read_text()
    assert "](tasks.md)" in (tmp_path / "index.md").read_text()
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*.md")} == PAGES - {"adr/index.md"}
    assert (tmp_path / "img/polling.png").exists()


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "x.png").touch()
    right = ["a/", "a/#here", "#top", "https://x.example/y", "x.png"]
    wrong = ["gone/", "a/#gone", "y.png", "#no", "a/b/"]
    links = "".join(f'<a href="{link}">.</a>' for link in [*right, *wrong])
    (tmp_path / "index.html").write_text(f'<h1 id="top">.</h1>{links}<img src="z.png">')
    (tmp_path / "a" / "index.html").write_text('<p id="here"><a href="../">.</a><a href="../x.png?v=1">.</a>')
    assert list(site.broken(tmp_path)) == [f"index.html: {link}" for link in [*wrong, "z.png"]]


def elements(html: str) -> dict[str, int]:
    return {name: len(re.findall(rf"<{name}[ >]", html)) for name in ("h1", "h2", "h3", "h4", "li", "pre", "td", "tr")}


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("zensical") is None, reason="make docs installs zensical, and CI runs it")
def test_the_site_is_built_and_shows_what_a_viewer_of_markdown_shows() -> None:
    """Python-Markdown, below Zensical, and CommonMark differ about lists and code in them."""
    built = subprocess.run([sys.executable, "-m", "docs.site"], cwd=ROOT, capture_output=True, text=True)
    assert (built.returncode, built.stdout) == (0, "tmp/site/index.html\n"), built.stdout
    commonmark = MarkdownIt("commonmark").enable("table")
    pages = [*sorted(site.PAGES.glob("*.md")), *sorted(site.PAGES.glob("adr/*.md"))]
    assert len(pages) > 30
    for page in pages:
        folder = page.parent if page.name == "index.md" else page.with_suffix("")
        html = (site.SITE / folder.relative_to(site.PAGES) / "index.html").read_text()
        (article,) = re.findall(r"<article.*?</article>", html, re.DOTALL)
        assert elements(article) == elements(commonmark.render(page.read_text())), page.name
