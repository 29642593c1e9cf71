"""Signing in: the token is in no URL, in no page and in no file that the next person at the browser finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from headway.protocol.access.tokens import make, write
from playwright.sync_api import Browser, expect

from tests.dashboard.conftest import looking
from tests.dashboard.watched import Watched
from tests.end_to_end.process import Server, launch
from tests.protocol.wire import post, submission

pytestmark = pytest.mark.long

SCOPES = {"all": ("submit", "read", "cancel", "admin", "metrics"), "view": ("view",)}
SECRETS: dict[str, str] = {}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with tokens, and one job that has failed."""
    folder = tmp_path_factory.mktemp("guarded")
    made = {name: make(name, scopes) for name, scopes in SCOPES.items()}
    SECRETS.update({name: secret for name, (secret, _) in made.items()})
    write(folder / "tokens.yaml", [token for _, token in made.values()])
    with launch(folder, {"auth__tokens": str(folder / "tokens.yaml")}) as server:
        sent = post(submission("fail", {"message": "kept from view"}), f"Authorization: Bearer {SECRETS['all']}")
        assert server.ask(sent).status == 202
        yield server


def signed_in(watched: Watched, name: str) -> None:
    page = watched.page
    page.goto(f"{watched.base}/#/jobs")
    page.get_by_label("The server asks for a token").fill(SECRETS[name])
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("a.row")).to_have_count(1, timeout=10_000)
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_token_is_asked_for_and_kept_for_this_tab_alone(browser: Browser, guarded: Server, tmp_path: Path) -> None:
    with looking(browser, guarded, 1280) as watched:
        watched.is_refused = True
        signed_in(watched, "all")
        page = watched.page
        page.locator("a.row").click()
        expect(page.locator("main h1")).to_contain_text("failed")
        expect(page.locator("main")).to_contain_text("kept from view")
        # It outlives a reload, and is in nothing that is shown or passed on.
        page.reload()
        expect(page.locator("main h1")).to_contain_text("failed")
        secret = SECRETS["all"]
        assert secret not in page.content()
        assert not any(secret in url for url in watched.requests)
        assert page.evaluate("JSON.stringify(localStorage) + document.cookie").find(secret) < 0
        with page.context.expect_page() as opened:
            page.evaluate("window.open(location.href, '_blank', 'noopener')")
        expect(opened.value.get_by_label("The server asks for a token")).to_be_visible(timeout=10_000)


def test_who_may_only_view_sees_states_and_no_error(browser: Browser, guarded: Server) -> None:
    with looking(browser, guarded, 1280) as watched:
        watched.is_refused = True
        signed_in(watched, "view")
        expect(watched.page.locator("a.row")).to_contain_text("failed")
        assert "kept from view" not in watched.page.content()
