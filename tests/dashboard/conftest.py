"""A browser and a server with jobs of all kinds, for the tests of the dashboard.

The browser is Debian's Chromium, driven by Playwright. Where it is not installed the tests are skipped.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.dashboard.watched import Watched

from tests.end_to_end.process import Server, launch
from tests.protocol.wire import request

# ``make test-dashboard`` installs it, and runs these tests in processes of their own: Playwright keeps a loop running.
collect_ignore_glob = [] if "DASHBOARD" in os.environ else ["*"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests of a worker."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Its sandbox does not work for root in a container.
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose jobs the screens show."""
    with launch(tmp_path_factory.mktemp("shown"), {"workers": 4}) as started:
        yield started
        started.ask(request("POST", "/jobs/cancel?state=scheduled,queued,running,retrying", body=b""))


@pytest.fixture(params=[1280, 390])
def watched(request: pytest.FixtureRequest, browser: Browser, shown: Server) -> Iterator[Watched]:
    """A page of a desk, then of a phone. What goes wrong in it fails the test."""
    with looking(browser, shown, request.param) as page:
        yield page


@pytest.fixture
def desk(browser: Browser, shown: Server) -> Iterator[Watched]:
    """A page of a desk."""
    with looking(browser, shown, 1280) as page:
        yield page


def looking(browser: Browser, server: Server, width: int, scheme: Literal["light", "dark"] = "light") -> Watched:
    """Open a page of so many pixels."""
    from tests.dashboard.watched import Watched

    return Watched(browser, server, width, scheme)
