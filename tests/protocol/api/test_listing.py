"""Listing jobs by a filter, and sending failed ones again."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta, timezone
from urllib.parse import urlencode

import pytest

from tests.conftest import Start
from tests.each import each
from tests.end_to_end.process import Server
from tests.protocol.wire import request

AGAIN = ("Content-Length: 0",)


def test_pages_follow_one_another(start: Start) -> None:
    server = start()
    paths = [server.run("fail") for _ in range(5)]
    server.run("nothing")
    page, seen = server.get("/jobs?state=failed&limit=2"), list[str]()
    while True:
        seen += [job["id"] for job in page.json["jobs"]]
        if page.json["next"] is None:
            break
        assert page["link"] == f'<{page.json["next"]}>; rel="next"'
        page = server.get(page.json["next"])
    assert [f"/jobs/{job_id}" for job_id in seen] == paths[::-1]


@each(
    "query, field",
    [
        ("?state=lost", "state"),
        ("?state=expired", "state"),
        ("?state=", "state"),
        ("?state=failed,lost", "state"),
        ("?task=", "task"),
        ("?task=dubble", "task"),
        ("?tag=", "tag"),
        ("?tag=a%0A", "tag"),
        ("?tag=a&tag=b", "tag"),
        ("?tag=" + "x" * 101, "tag"),
        ("?reason=anger", "reason"),
        ("?error=", "error"),
        ("?submitted_after=yesterday", "submitted_after"),
        ("?submitted_after=", "submitted_after"),
        ("?submitted_before=1", "submitted_before"),
        ("?ended_after=1y", "ended_after"),
        ("?ended_before=2026-11-29", "ended_before"),
        ("?ended_before=2026-11-29T08:00:00", "ended_before"),
        ("?ended_before=2026-02-30T08:00:00Z", "ended_before"),
        ("?ended_before=2026-11-29T25:00:00Z", "ended_before"),
        ("?ended_before=-1d", "ended_before"),
        ("?ended_before=9999999999d", "ended_before"),
        ("?ended_before=1d%0A", "ended_before"),
        ("?state=failed&limit=0", "limit"),
        ("?state=failed&limit=1001", "limit"),
        ("?state=failed&limit=many", "limit"),
        ("?state=failed&after=-1", "after"),
        ("?state=failed&after=9999999999999999999999", "after"),
        ("?state=failed&colour=red", "colour"),
        # Python reads no number of more than 4,300 digits.
        *((f"?state=failed&{name}=" + "9" * 5000, name) for name in ("limit", "after", "state", "colour")),
    ],
)
def test_wrong_query_is_422_and_names_what_is_wrong(server: Server, query: str, field: str) -> None:
    answer = server.get("/jobs" + query)
    assert answer.status == 422
    assert [fault["field"] for fault in answer.json["errors"]] == [field]


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("state=failed,lost", "one or more of scheduled, queued, running, retrying, succeeded, failed, cancelled"),
        ("task=dubble", "'dubble' is not one of: "),
        ("reason=anger", "expected one of crashed, deadline, error, invalid-payload, timeout"),
        ("ended_after=yesterday", "a time such as 2026-11-29T08:00:00Z, or an age such as 90s, 30m, 12h or 7d"),
        ("ended_after=2026-02-30T08:00:00Z", "a time such as 2026-11-29T08:00:00Z, or an age such as"),
        ("tag=", "a text of 1 to 100 characters, none of them a control character"),
    ],
)
def test_wrong_query_is_told_what_is_allowed(server: Server, query: str, detail: str) -> None:
    told = server.get(f"/jobs?{query}").json["detail"]
    assert detail in told
    assert "null" not in told


# Tags, and texts of errors, that have to be coded in a URL.
ODD = ["a b", "50%", "a+b", "a&b=c", "a,b", "müller", "\U0001f600", "#?/\\\"'<>", "42", "1e5", "%2B"]


@each("odd", ODD)
def test_odd_tags_and_texts_are_kept_from_page_to_page(server: Server, odd: str) -> None:
    tag = f"{odd} of pages"
    paths = [server.run("fail", {"message": f"no {odd} left"}, tags=[tag]) for _ in range(3)]
    query = {"state": "failed", "task": "fail", "tag": tag, "reason": "error", "error": f"NO {odd.upper()} LEFT"}
    query |= {"submitted_after": "1h", "ended_before": "2100-01-01T00:00:00+01:00"}
    path, seen = f"/jobs?limit=1&{urlencode(query)}", list[str]()
    while path is not None:
        page = server.get(path)
        seen += [f"/jobs/{job['id']}" for job in page.json["jobs"]]
        assert [job["tags"] for job in page.json["jobs"]] in ([], [[tag]])
        path = page.json["next"]
        assert page.headers.get("link") == (path and f'<{path}>; rel="next"')
        assert path is None or path.isascii()
    assert seen == paths[::-1]


@pytest.mark.parametrize(
    ("age", "seconds"), [("90s", 90), ("30m", 1800), ("12h", 43_200), ("1d", 86_400), ("2w", 1_209_600)]
)
def test_an_age_is_a_time_from_the_first_page_on(server: Server, age: str, seconds: int) -> None:
    for _ in range(2):
        server.run("nothing")
    following = server.get(f"/jobs?submitted_after={age}&limit=1").json["next"]
    (moment,) = re.findall("submitted_after=([^&]*)&", following)
    assert seconds <= time.time() - datetime.fromisoformat(moment).timestamp() < seconds + 60


def test_several_states_are_kept_from_page_to_page(server: Server) -> None:
    tag = "states of pages"
    failed = [server.run("fail", tags=[tag]) for _ in range(2)]
    for _ in range(2):
        server.run("nothing", tags=[tag])
    waiting = server.submit("nothing", delay=1000, tags=[tag])
    path, seen = f"/jobs?state=scheduled,failed&limit=1&{urlencode({'tag': tag})}", list[str]()
    while path is not None:
        page = server.get(path)
        seen += [f"/jobs/{job['id']}" for job in page.json["jobs"]]
        path = page.json["next"]
    server.delete(waiting)
    assert seen == [waiting, *failed[::-1]]


@pytest.mark.parametrize("shift", ["Z", "z", "+01:00", "%2B01:00", "-01:00"])
def test_times_have_any_zone_and_a_plus_may_be_bare(server: Server, shift: str) -> None:
    path = server.run("nothing")
    zone = timezone(timedelta(hours={"Z": 0, "z": 0, "-01:00": -1}.get(shift, 1)))
    ended = datetime.fromisoformat(server.get(path).json["ended"]).astimezone(zone)

    def jobs(**query: str) -> list[str]:
        listed = server.get("/jobs?limit=1&" + "&".join(f"{name}={value}" for name, value in query.items())).json
        return [f"/jobs/{job['id']}" for job in listed["jobs"]]

    # Each second the wall clock is read anew, and may differ by some µs from what was told.
    before = ended - timedelta(milliseconds=10)
    moment, later = (f"{t:%Y-%m-%dT%H:%M:%S.%f}{shift}" for t in (before, ended + timedelta(seconds=1)))
    assert jobs(ended_after=moment, ended_before=later) == [path]
    assert jobs(ended_before=moment) != [path]


def test_several_states_are_one_list(server: Server) -> None:
    paths = {server.run("fail", tags=["several"]), server.run("nothing", tags=["several"])}
    for query in ("state=failed,succeeded", "state=failed&state=succeeded", "state=failed%2Csucceeded"):
        answer = server.get(f"/jobs?tag=several&{query}")
        if "%2C" in query:
            assert answer.status == 422
        else:
            assert {f"/jobs/{job['id']}" for job in answer.json["jobs"]} == paths


@each(
    "tags", ['"a"', "[1]", '[""]', "[null]", "null", '["a\\u0000"]', '["a\\n"]', '["\\u0085"]', '["' + "x" * 101 + '"]']
)
def test_wrong_tags_are_refused(server: Server, tags: str) -> None:
    for path, form in (("/jobs", '{"task":"nothing","tags":%s}'), ("/batches", '[{"task":"nothing","tags":%s}]')):
        answer = server.ask(request("POST", path, "Content-Type: application/json", body=(form % tags).encode()))
        assert answer.status == 422
        (fault,) = answer.json["errors"]
        assert fault["field"] in ("tags", "[0].tags")
        assert fault["detail"].endswith(
            "expected at most 8 texts of 1 to 100 characters, none of them a control character"
        )


def test_documents_show_tags_where_there_are_any(server: Server) -> None:
    tags = ["customer:42", "<b>\u202e"]
    for task, code in (("nothing", 200), ("fail", 424)):
        path = server.run(task, tags=[*tags, tags[0]])
        answer = server.get(path)
        assert (answer.status, answer.json["tags"]) == (code, tags)
    assert "tags" not in server.get(server.run("nothing")).json


def test_failed_job_is_sent_again_under_a_new_id(server: Server) -> None:
    old = server.run("fail", {"message": "no paper"}, priority=3)
    answer = server.ask(request("POST", f"{old}/retry", *AGAIN))
    assert (answer.status, answer["job-state"], answer["link"]) == (202, "queued", f'<{old}>; rel="prev"')
    new = answer["location"]
    assert new != old
    server.wait_for(new, "failed")
    assert server.get(new).json["detail"] == server.get(old).json["detail"] == "RuntimeError: no paper"


def test_only_failed_jobs_are_sent_again(server: Server) -> None:
    path = server.run("nothing")
    assert server.ask(request("POST", f"{path}/retry", *AGAIN)).status == 409
    failed = server.run("fail")
    server.delete(failed)
    assert server.ask(request("POST", f"{failed}/retry", *AGAIN)).status == 410
    assert server.ask(request("POST", f"/jobs/{'0' * 28}/retry", *AGAIN)).status == 404
    assert server.ask(request("POST", f"{path}/result", *AGAIN)).status == 405


def test_deadline_is_told(server: Server) -> None:
    head = server.wait_for(server.submit("sleep", {"seconds": 60}, deadline=0.05), "failed")
    assert (head.status, head["job-reason"]) == (424, "deadline")
