"""What a person can do on the dashboard, from the first minute on."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Route, expect

from tests.dashboard.watched import Watched, batch, keep
from tests.end_to_end.process import Gate, Server


def test_a_job_is_submitted_seen_running_and_its_result_is_read(watched: Watched) -> None:
    page = watched.open("submit/sleep")
    page.get_by_label("Payload, JSON").fill('{"seconds": 1.5}')
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("main h1")).to_contain_text("running")
    expect(page.locator("main h1")).to_contain_text("succeeded", timeout=10_000)
    expect(page.locator("section", has_text="Result")).to_contain_text('"slept": 1.5')


def test_an_image_is_dropped_and_its_thumbnail_is_shown(desk: Watched, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    fade = Image.linear_gradient("L").resize((400, 200))
    Image.merge("RGB", [fade, Image.radial_gradient("L").resize((400, 200)), fade.rotate(180)]).save(photo)
    page = desk.open("submit/thumbnail")
    page.locator("input[type=file]").set_input_files(photo)
    page.get_by_role("button", name="Submit").click()
    image = page.locator("section", has_text="Result").locator("img")
    image.wait_for()
    assert image.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [128, 64]
    keep(page, "first-minute")


def test_a_file_is_asked_for_where_a_task_takes_one(desk: Watched) -> None:
    page = desk.open("submit/thumbnail")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("alert")).to_contain_text("drop one or choose it")


def test_a_fault_is_shown_at_its_field(desk: Watched) -> None:
    page = desk.open("submit/scan")
    page.get_by_label("pages").fill('[{"size": "large"}]')
    page.get_by_role("button", name="Submit").click()
    expect(page.locator(".field.bad")).to_contain_text("pages")
    expect(page.locator(".field.bad")).to_contain_text("Expected `int`, got `str`")
    expect(page.get_by_label("pages")).to_be_focused()


def test_large_numbers_stay_exact(desk: Watched, shown: Server) -> None:
    page = desk.open("submit/echo")
    page.get_by_label("Payload, JSON").fill('{"n": 12345678901234567890123, "f": 1.10}')
    page.get_by_role("button", name="Submit").click()
    result = page.locator("section", has_text="Result").locator("pre")
    expect(result).to_contain_text("12345678901234567890123")


def test_a_failed_job_is_retried_and_tells_its_traceback(desk: Watched, shown: Server) -> None:
    job = shown.run("fail", {"message": "no"}).removeprefix("/jobs/")
    page = desk.open(f"job/{job}")
    expect(page.locator("details pre")).to_contain_text("Traceback")
    page.get_by_role("button", name="Retry").click()
    expect(page).not_to_have_url(re.compile(job))
    expect(page.locator("main h1")).to_contain_text("failed")


def test_a_running_job_is_cancelled_after_a_question(desk: Watched, shown: Server, gate: Gate) -> None:
    job = shown.submit("until_file", gate.path).removeprefix("/jobs/")
    page = desk.open(f"job/{job}")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="No").click()
    expect(page.locator("main h1")).to_contain_text("running")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Yes").click()
    expect(page.locator("main h1")).to_contain_text("cancelled")


def test_all_like_this_are_retried_after_a_dry_run(desk: Watched, shown: Server) -> None:
    for number in range(3):
        shown.run("fail", {"message": f"shelf {number} is empty"})
    page = desk.open("errors")
    group = page.locator("article", has_text="is empty")
    group.get_by_role("button", name="Retry all like this").click()
    expect(page.locator("#ask")).to_contain_text("retry 3 jobs: 3 of fail?")
    page.get_by_role("button", name="Yes").click()
    expect(page.locator("main h1")).to_contain_text("headway.retry")
    expect(page.locator("section", has_text="Result")).to_contain_text('"done": 3')


def test_a_task_is_held_and_runs_again(desk: Watched, shown: Server) -> None:
    page = desk.open("tasks")
    card = page.locator("article", has=page.get_by_role("heading", name="nothing", exact=True))
    card.get_by_role("button", name="Hold").click()
    page.get_by_role("button", name="Yes").click()
    expect(card).to_contain_text("Its jobs wait.")
    assert shown.get("/tasks/nothing").json["dispatch"] == "hold"
    card.get_by_role("button", name="Run").click()
    expect(card).not_to_contain_text("Its jobs wait.")


def test_a_batch_is_a_bar_and_is_cancelled(desk: Watched, shown: Server, gate: Gate) -> None:
    body = b'[{"task":"nothing"},{"task":"until_file","payload":"%b"}]' % gate.path.encode()
    made = shown.ask(batch(body)).json["id"]
    page = desk.open("batches")
    page.locator(f'a[href="#/batch/{made}"]').click()
    expect(page.locator(".bar")).to_have_attribute("aria-label", re.compile("succeeded 1.*pending 1"))
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Yes").click()
    expect(page.locator("main h1")).to_contain_text("cancelled")


def test_an_end_is_shown_at_once(desk: Watched, shown: Server, gate: Gate) -> None:
    job = shown.submit("until_file", gate.path).removeprefix("/jobs/")
    page = desk.open(f"job/{job}")
    expect(page.locator("main h1")).to_contain_text("running")
    page.wait_for_timeout(300)
    gate.open()
    shown.wait_for(f"/jobs/{job}", "succeeded")
    # A beat is 2.5 seconds. An event is there before.
    expect(page.locator("main h1")).to_contain_text("succeeded", timeout=700)


def test_a_submission_is_copied_as_a_command(desk: Watched) -> None:
    page = desk.open("submit/echo")
    page.get_by_label("Payload, JSON").fill('{"it": "isn\'t"}')
    page.get_by_role("button", name="Copy as curl").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    command = page.evaluate("navigator.clipboard.readText()")
    said = subprocess.run(["sh", "-c", f"{command} -s"], capture_output=True, text=True, check=True)
    assert json.loads(said.stdout)["state"] == "queued"


def test_jobs_are_found_by_a_tag_from_the_header(desk: Watched, shown: Server) -> None:
    shown.run("echo", 1, tags=["order:4711"])
    shown.run("echo", 1, tags=["plain"])
    for tag in ("order:4711", "plain"):
        page = desk.open()
        page.get_by_role("search").get_by_role("textbox").fill(tag)
        page.keyboard.press("Enter")
        expect(page.locator("main h1")).to_have_text("Jobs")
        expect(page.get_by_label("Tag", exact=True)).to_have_value(tag)
        expect(page.locator("a.row")).to_have_count(1)


def test_keys_are_told_and_move_through_a_list(desk: Watched, shown: Server) -> None:
    for number in range(3):
        shown.run("echo", number, tags=["keys"])
    page = desk.open("jobs?tag=keys")
    expect(page.locator("a.row")).to_have_count(3)
    page.locator("main").focus()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_contain_text("find jobs by id, key or tag")
    page.keyboard.press("Escape")
    page.locator("main").focus()
    for key in ("j", "j", "k", "j"):
        page.keyboard.press(key)
    expect(page.locator("a.row").nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main h1")).to_contain_text("succeeded")


def test_a_token_is_asked_for_and_sent(desk: Watched) -> None:
    """A proxy in front of the server wants one."""

    def guard(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer secret":
            route.continue_()
        else:
            route.fulfill(status=401)

    page = desk.page
    page.route(lambda url: urlsplit(url).path in {"/tasks", "/history"}, guard)
    page.goto(f"{desk.base}/#/tasks")
    page.get_by_label("The server asks for a token").fill("secret")
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("main h1")).to_have_text("Tasks")
    expect(page.get_by_role("alert")).to_have_count(0)
    assert "secret" not in page.url
    # The browser has told of the answer 401.
    desk.faults.clear()


def test_a_log_grows_while_it_is_read(desk: Watched, gate: Gate) -> None:
    page = desk.open("submit/log_texts")
    payload = {"texts": ["first\n"], "path": gate.path, "more": ["second\n"]}
    page.get_by_label("Payload, JSON").fill(json.dumps(payload))
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("pre.log")).to_have_text("first\n")
    gate.open()
    expect(page.locator("pre.log")).to_have_text("first\nsecond\n")


@pytest.mark.parametrize("task", ["with / and é"])
def test_a_task_with_an_odd_name_is_shown_and_used(desk: Watched, shown: Server, task: str) -> None:
    page = desk.open("tasks")
    card = page.locator("article", has=page.get_by_role("heading", name=task, exact=True))
    card.get_by_role("link", name="Submit").click()
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("main h1")).to_contain_text("succeeded")
