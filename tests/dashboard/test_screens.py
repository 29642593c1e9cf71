"""Each screen at a desk and on a phone: it shows what the API tells, and everybody can use it."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.dashboard.conftest import looking
from tests.dashboard.watched import Watched, batch, keep
from tests.end_to_end.process import Server

SCREENS = ["", "jobs", "errors", "tasks", "workers", "batches", "submit"]


@pytest.fixture(scope="module")
def busy(shown: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """The server with jobs in all states."""
    for number in range(6):
        shown.run("fail", {"message": f"order {4711 + number} has no lines"}, tags=["customer:42"])
        shown.run("echo", {"order": number})
    shown.submit("sleep", {"seconds": 30}, tags=["customer:7"])
    shown.submit("echo", 1, delay=3600)
    shown.ask(batch(b'[{"task":"echo","payload":1},{"task":"fail"},{"task":"sleep","payload":{"seconds":30}}]'))
    return shown


def serious(page: Page) -> list[str]:
    """Return the serious faults that axe finds."""
    found: dict[str, Any] = Axe().run(page).response
    return [
        f"{fault['id']}: {node['html'][:200]}"
        for fault in found["violations"]
        if fault["impact"] in {"serious", "critical"}
        for node in fault["nodes"]
    ]


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("screen", [*SCREENS, "job"])
def test_a_screen_shows_something_and_can_be_used_by_all(
    browser: Browser, busy: Server, screen: str, width: int, scheme: Any
) -> None:
    with looking(browser, busy, width, scheme) as watched:
        place = screen
        if screen == "job":
            place = f"job/{busy.get('/jobs?state=failed').json['jobs'][0]['id']}"
        page = watched.open(place)
        page.wait_for_load_state("networkidle")
        assert serious(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        keep(page, f"{screen or 'overview'}-{'wide' if width > 1000 else 'narrow'}-{scheme}")


def test_the_overview_has_the_counts(desk: Watched, busy: Server) -> None:
    page = desk.open()
    expect(page.locator(".figure", has_text="Failed")).to_contain_text(str(busy.stats()["jobs"]["failed"]))
    expect(page.locator("figure.chart")).to_have_count(4)
    page.get_by_role("link", name="24 h").click()
    expect(page.get_by_role("link", name="24 h")).to_have_attribute("aria-current", "true")


def test_a_filter_stands_in_the_url_and_is_there_again(desk: Watched, busy: Server) -> None:
    page = desk.open("jobs")
    page.get_by_label("State").select_option("failed")
    expect(page).to_have_url(f"{desk.base}/#/jobs?state=failed")
    page.get_by_label("Tag", exact=True).fill("customer:42")
    page.get_by_label("Tag", exact=True).press("Enter")
    expect(page.locator("a.row")).to_have_count(6)
    page.reload()
    expect(page.locator("a.row")).to_have_count(6)
    page.get_by_role("link", name="clear").click()
    expect(page.get_by_label("State")).to_have_value("")


def test_errors_are_grouped(desk: Watched, busy: Server) -> None:
    page = desk.open("errors")
    group = page.locator("article", has_text="has no lines")
    expect(group.locator("h2")).to_contain_text("6 \N{MULTIPLICATION SIGN} fail")


def test_a_job_is_found_by_its_id_and_by_the_keyboard(desk: Watched, busy: Server) -> None:
    job = busy.get("/jobs?state=failed").json["jobs"][0]["id"]
    page = desk.open()
    page.keyboard.press("/")
    page.keyboard.type(job)
    page.keyboard.press("Enter")
    expect(page.locator("main h1")).to_contain_text("failed")
    page.keyboard.press("Escape")
    page.locator("main").focus()
    page.keyboard.press("g")
    page.keyboard.press("t")
    expect(page.locator("main h1")).to_have_text("Tasks")
