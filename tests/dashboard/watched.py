"""A page of the dashboard whose requests, errors and scripts are watched."""

from __future__ import annotations

import os
import re
from io import BytesIO
from types import TracebackType
from typing import Literal
from urllib.parse import urlsplit

from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, Request

from tests.end_to_end.process import ROOT, Server
from tests.protocol.wire import request

# The browser writes a line for each answer over 399, and some of them tell of a job.
TELLS_OF_JOBS = re.compile(r"Failed to load resource: the server responded with a status of (410|416|422|424) ")
REFUSED = re.compile(r"Failed to load resource: the server responded with a status of (401|403) ")
AWAY = re.compile(r"Failed to load resource: net::ERR_(CONNECTION_REFUSED|CONNECTION_RESET|EMPTY_RESPONSE)")


IMAGES = ROOT / "docs" / "img" if "SCREENSHOTS" in os.environ else None


class Watched:
    """A page. At its end it has asked no other server, and nothing has gone wrong in it."""

    def __init__(
        self, browser: Browser, server: Server, width: int, scheme: Literal["light", "dark"] = "light"
    ) -> None:
        self.base = f"http://127.0.0.1:{server.port}"
        self._context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            permissions=["clipboard-read", "clipboard-write"],
        )
        self.page: Page = self._context.new_page()
        self.requests: list[str] = []
        self.faults: list[str] = []
        # Whether the server may be away, and whether it may refuse the page.
        self.is_alone = self.is_refused = False
        self.page.on("request", self._asked)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: self.faults.append(f"a dialog: {dialog.message}"))

    def __enter__(self) -> Watched:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.close()
        if error is None:
            assert self.faults == []
            assert [url for url in self.requests if urlsplit(url).netloc != urlsplit(self.base).netloc] == []

    def open(self, place: str = "") -> Page:
        """Open a screen, and wait until it shows something."""
        self.page.goto(f"{self.base}/#/{place}")
        self.page.locator("main h1").wait_for()
        return self.page

    def _asked(self, asked: Request) -> None:
        if not asked.url.startswith("blob:"):
            self.requests.append(asked.url)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type not in {"error", "warning"} or TELLS_OF_JOBS.match(message.text):
            return
        expected = (self.is_alone and AWAY.match(message.text)) or (self.is_refused and REFUSED.match(message.text))
        if not expected:
            self.faults.append(message.text)


def keep(page: Page, name: str) -> None:
    """Keep a picture of the page in docs/img, with ``SCREENSHOTS=1``. A palette keeps it small."""
    if IMAGES is not None:
        picture = Image.open(BytesIO(page.screenshot()))
        picture.quantize(128, dither=Image.Dither.NONE).save(IMAGES / f"{name}.png", optimize=True)


def batch(body: bytes) -> bytes:
    """Return the request that submits a batch."""
    return request("POST", "/batches", "Content-Type: application/json", body=body)
