"""A key under which a job came before, with content that is no longer valid: its answer has the id of the job."""

from __future__ import annotations

from pathlib import Path

import pytest
import uvloop
from headway.core.errors import InvalidError
from headway.core.job import Submission
from headway.core.key import Key
from headway.protocol.access.scopes import SUBMIT
from headway.protocol.api.service import Service
from headway.protocol.api.submissions import under_key
from headway.protocol.http.caller import Caller
from headway.protocol.http.problems import Refusal
from headway.protocol.http.request import Request

from tests.lives.server import Lives, run
from tests.protocol.wire import request, submission


def invalid() -> Submission:
    """Refuse the content, as a version may that came after it."""
    raise InvalidError([("", "is not as it was")])


def test_it_is_answered_to_who_may_submit_the_task_of_the_job(tmp_path: Path) -> None:
    """The content does not tell the task, so the job does."""

    async def test() -> None:
        lives, body = Lives(tmp_path, journal=False), submission("echo", 1)
        client = await lives.start(auth={"mode": "none"})
        put = request("PUT", "/jobs/order-1", "Content-Type: application/json", body=body)
        job = (await client.ask(put))["location"]
        service, key = Service(lives.config, lives.engine), Key.of("order-1", body)
        asked = Request(lives.config.limits, lambda request: request.limit, lambda _: None, lambda _: None)
        for task in ("echo", "fail"):
            asked.caller = Caller(task, frozenset({SUBMIT}), frozenset({task}))
            if task == "echo":
                answer = under_key(service, asked, key, invalid)
                assert isinstance(answer, bytes)
                assert job.encode() in answer
            else:
                with pytest.raises(Refusal, match="may submit fail, not 'echo'"):
                    under_key(service, asked, key, invalid)
        await lives.end()

    run(test(), loop=uvloop.new_event_loop)
