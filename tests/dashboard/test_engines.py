"""The dashboard on each engine that outlives the server: it goes on by itself after a restart."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.dashboard.conftest import looking
from tests.end_to_end.process import AS_SHIPPED, Gate, launch

pytestmark = pytest.mark.long


@pytest.fixture(params=["journal", "store"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, object]:
    """The settings of an engine."""
    if request.param == "journal":
        return {"journal__path": str(tmp_path / "jobs.db")}
    return {"engine": request.getfixturevalue("store_url"), "journal__path": AS_SHIPPED}


def test_a_restart_is_said_and_what_was_before_is_there_again(
    browser: Browser, tmp_path: Path, settings: dict[str, object]
) -> None:
    with launch(tmp_path, settings) as server:
        port = server.port
        server.run("echo", "before")
        watched = looking(browser, server, 1280)
        page = watched.open("jobs")
        expect(page.locator("a.row")).to_have_count(1)
    with watched:
        watched.is_alone = True
        expect(page.get_by_role("alert")).to_contain_text("has not answered", timeout=15_000)
        with launch(tmp_path, settings | {"server__port": port}) as server:
            expect(page.get_by_role("alert")).to_have_count(0, timeout=20_000)
            server.run("echo", "after")
            expect(page.locator("a.row")).to_have_count(2, timeout=10_000)
            page.goto(f"{watched.base}/#/")
            # The history of before is there, too.
            done = page.locator("figure", has_text="Jobs per second")
            expect(done).to_be_visible()
            spans = server.get("/history?hours=1").json["spans"]
            assert sum(span.get("succeeded", 0) for span in spans) == 2
            page.close()


def test_a_job_is_submitted_held_run_and_read(
    browser: Browser, tmp_path: Path, settings: dict[str, object], gate: Gate
) -> None:
    with launch(tmp_path, settings) as server, looking(browser, server, 1280) as watched:
        page = watched.open("submit/until_file")
        page.get_by_label("Payload, JSON").fill(f'"{gate.path}"')
        page.get_by_role("button", name="Submit").click()
        expect(page.locator("main h1")).to_contain_text("running")
        expect(page.locator("section", has_text="Payload").locator("pre")).to_contain_text(gate.path)
        gate.open()
        expect(page.locator("main h1")).to_contain_text("succeeded", timeout=10_000)
        expect(page.locator(".machine")).to_have_attribute("aria-label", re.compile("queued, running, succeeded"))
        for screen in ("errors", "tasks", "workers", "batches", "jobs", ""):
            watched.open(screen)
