"""A key under which a job came before, with content that is no longer valid: its answer has the id of the job."""

from __future__ import annotations

from pathlib import Path

import pytest
import uvloop
from headway.core.errors import InvalidError
from headway.core.job import Submission
from headway.protocol.access.token_file import TokenFile
from headway.protocol.api import bodies

from tests.lives.server import Lives, run
from tests.protocol.access.scan import JSON, asking
from tests.protocol.wire import submission


def refuse(_: bytes) -> Submission:
    """Refuse any content, as a version may that came after it."""
    raise InvalidError([("", "is not as it was")])


def test_it_is_answered_to_who_may_submit_the_task_of_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content does not tell the task, so the job does."""

    async def test() -> None:
        path = tmp_path / "tokens.yaml"
        file = TokenFile(path)
        tokens = {name: file.add(name, [scope]) for name, scope in (("echo", "submit:echo"), ("fail", "submit:fail"))}
        lives = Lives(tmp_path, journal=False)
        await lives.start(auth={"tokens": str(path)})
        ask = ("PUT", "/jobs/order-1", JSON)
        body = submission("echo", 1)
        async with asking(lives.port, f"Authorization: Bearer {tokens['echo']}") as client:
            assert (await client.ask(*ask, body=body))[0] == 202
            monkeypatch.setattr(bodies, "submission", refuse)
            assert (await client.ask(*ask, body=body))[0] in (200, 202)
        async with asking(lives.port, f"Authorization: Bearer {tokens['fail']}") as other:
            status, headers = await other.ask(*ask, body=body)
            assert (status, "location" in headers) == (403, False)
        await lives.end()

    run(test(), loop=uvloop.new_event_loop)
