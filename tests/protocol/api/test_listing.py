"""Listing jobs by state, and sending failed ones again."""

from __future__ import annotations

import pytest

from tests.conftest import Start
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


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "state"),
        ("?state=lost", "state"),
        ("?state=expired", "state"),
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
