"""The site of these pages, in tmp/site: ``python -m docs.site``, or ``make docs``.

The pages that are generated are written first. Then all pages are collected in tmp/pages, since a
site has no files from outside of its folder: files of the repository that a page links to are
copied beside it. Zensical builds the site and fails at a link to no page or no heading. A look at
the HTML finds the other links that lead nowhere.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from docs import decisions, lifecycle, reference, settings

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
PAGES = ROOT / "tmp" / "pages"
SITE = ROOT / "tmp" / "site"
GENERATED = (decisions, lifecycle, reference, settings)
LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")


def write() -> None:
    """Write the generated pages that are not as they should be."""
    for generated in GENERATED:
        text = generated.page()
        if not generated.PAGE.exists() or generated.PAGE.read_text() != text:
            generated.PAGE.write_text(text)


def collect(pages: Path) -> None:
    """Copy the pages to ``pages``, and each file of the repository that one of them links to."""
    for path in sorted(DOCS.rglob("*")):
        if path.suffix not in (".md", ".png", ".svg"):
            continue
        target = pages / path.relative_to(DOCS)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            target.write_text("".join(_linked(path, pages)))
        else:
            shutil.copy(path, target)


def _linked(page: Path, pages: Path) -> Iterator[str]:
    """Yield the text of a page, its links as they are in ``pages``. Files from outside are copied there."""
    up = "../" * len(page.relative_to(DOCS).parents[:-1])
    # Every second part is a link.
    for number, part in enumerate(LINK.split(page.read_text())):
        target = (page.parent / part).resolve() if number % 2 and "://" not in part else DOCS
        if target.is_relative_to(DOCS) or not target.is_file():
            yield part
            continue
        # A page of Markdown would be one of the site.
        name = target.relative_to(ROOT).with_suffix(".txt" if target.suffix == ".md" else target.suffix)
        copied = pages / "files" / name
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(target, copied)
        yield f"{up}files/{name}"


class _Links(HTMLParser):
    """The links of a page, and its anchors."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page)

    def handle_starttag(self, _: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take the links and the anchors of a tag."""
        found = dict(attrs)
        self.links += filter(None, (found.get("href"), found.get("src")))
        self.anchors |= {found.get("id") or "", found.get("name") or ""}


def broken(site: Path) -> Iterator[str]:
    """Yield each link of a page in ``site`` that leads nowhere in it."""
    pages = {path: _Links(path.read_text()) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            base = site if parts.path.startswith("/") else path.parent
            target = (base / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            known = pages[target].anchors if target in pages else set()
            if not target.exists() or (parts.fragment and target in pages and unquote(parts.fragment) not in known):
                yield f"{path.relative_to(site)}: {link}"


def main() -> None:
    """Write the pages and the site. End with exit code 1 at a broken link."""
    write()
    for folder in (PAGES, SITE):
        shutil.rmtree(folder, ignore_errors=True)
    collect(PAGES)
    zensical = Path(sys.executable).with_name("zensical")
    built = subprocess.run([zensical, "build", "--strict", "--clean"], cwd=ROOT, capture_output=True, text=True)
    wrong = [] if built.returncode else list(broken(SITE))
    if built.returncode or wrong:
        # Behind the report of a broken link comes a traceback of Zensical's own.
        print(built.stderr.partition("Traceback")[0], *(f"broken link: {link}" for link in wrong), sep="\n")
        sys.exit(1)
    print("tmp/site/index.html")


if __name__ == "__main__":
    main()
