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

DOCS = Path(__file__).parent
ROOT = DOCS.parent
PAGES = ROOT / "tmp" / "pages"
SITE = ROOT / "tmp" / "site"
GENERATED = (decisions, lifecycle, reference, settings)
LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")


def write() -> None:
    """Write the generated pages."""
    for generated in GENERATED:
        generated.PAGE.write_text(generated.page())


def collect() -> None:
    """Copy the pages, and each file of the repository that one of them links to."""
    shutil.rmtree(PAGES, ignore_errors=True)
    for path in sorted(DOCS.rglob("*")):
        if path.suffix == ".md":
            target = PAGES / path.relative_to(DOCS)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(LINK.sub(lambda found, page=path: _linked(page, found[1]), path.read_text()))
        elif path.suffix in (".png", ".svg"):
            target = PAGES / path.relative_to(DOCS)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)


def _linked(page: Path, link: str) -> str:
    """Return ``link`` of ``page`` as it is in the site. A file from outside is copied into it."""
    target = (page.parent / link).resolve()
    if "://" in link or not target.is_file() or target.is_relative_to(DOCS):
        return link
    copied = PAGES / "files" / target.relative_to(ROOT)
    copied.parent.mkdir(parents=True, exist_ok=True)
    # A page of Markdown would be one of the site.
    copied = copied.with_suffix(".txt") if copied.suffix == ".md" else copied
    shutil.copy(target, copied)
    return "../" * len(page.relative_to(DOCS).parents[:-1]) + str(copied.relative_to(PAGES))


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
    collect()
    shutil.rmtree(SITE, ignore_errors=True)
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
