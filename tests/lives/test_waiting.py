"""What waits: which job a DELETE takes out, in which place each stands, and how many may wait."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.lives.server import Gates, Lives, run
from tests.protocol.wire import post, request, submission

pytestmark = pytest.mark.long

# More pushes and holes than a line of this size has slots: it is put in order anew many times.
PLACES, STEPS = 8, 300


@pytest.mark.parametrize("seed", range(3))
def test_whatever_was_taken_out_before_each_job_has_its_place_and_delete_takes_that_job(
    tmp_path: Path, seed: int
) -> None:
    async def test() -> None:
        gates, chance = Gates(), random.Random(seed)
        lives = Lives(tmp_path, (gates.hold,), journal=False)
        await lives.start(workers=1, queue={"size": PLACES}, retention={"jobs": 10_000})
        await lives.wait_for(await lives.submit("hold", "first"), "running")
        lines: dict[int, list[str]] = {4: [], 6: []}
        gone: list[str] = []
        for _ in range(STEPS):
            waiting = [path for line in lines.values() for path in line]
            if len(waiting) < PLACES and (not waiting or chance.random() < 0.6):
                priority = chance.choice((4, 4, 6))
                lines[priority].append(await lives.submit("echo", None, priority=priority))
            else:
                gone.append(chance.choice(waiting))
                assert (await lives.ask(request("DELETE", gone[-1]))).status == 204
                for line in lines.values():
                    if gone[-1] in line:
                        line.remove(gone[-1])
            for place, path in enumerate(lines[6] + lines[4]):
                said = await lives.ask(request("HEAD", path))
                assert (said["job-state"], int(said["job-position"])) == ("queued", place)
        # Those that are left are run, in their order, and those that were taken out are not.
        left = lines[6] + lines[4]
        gates.open("first")
        for path in left:
            await lives.wait_for(path, "succeeded")
        ended = [job["id"] for job in (await lives.ask(request("GET", "/jobs?state=succeeded"))).json["jobs"]]
        assert sorted(f"/jobs/{job_id}" for job_id in ended)[1:] == sorted(left)
        assert {(await lives.ask(request("HEAD", path)))["job-state"] for path in gone} == {"cancelled"}
        await lives.end()

    run(test())


@pytest.mark.parametrize("journal", [True, False], ids=["journal", "memory"])
def test_a_burst_is_admitted_up_to_the_size_of_the_queue_and_no_further(tmp_path: Path, journal: bool) -> None:
    """With a journal all of it comes before the first of it is on disk: one client each, since answers are in order."""

    async def test() -> None:
        gates = Gates()
        lives = Lives(tmp_path, (gates.hold,), journal)
        await lives.start(workers=1, queue={"size": 10})
        await lives.wait_for(await lives.submit("hold", "first"), "running")
        clients = [lives.client() for _ in range(25)]
        for delay in (0, 1000):
            for client in clients:
                await client.send(post(submission("echo", 1, delay=delay)))
            answers = [await client.read("POST") for client in clients]
            taken = [answer["location"] for answer in answers if answer.status == 202]
            assert len(taken) == 10
            assert {answer.status for answer in answers} == {202, 429}
            refused = next(answer for answer in answers if answer.status == 429)
            assert refused["ratelimit-policy"] == '"queue";q=10;qu="concurrent-requests"'
            for path in taken:
                assert (await lives.ask(request("DELETE", path))).status == 204
        await lives.end()

    run(test())


def test_a_batch_beside_a_burst_is_admitted_whole_or_not_at_all(tmp_path: Path) -> None:
    async def test() -> None:
        gates = Gates()
        lives = Lives(tmp_path, (gates.hold,))
        await lives.start(workers=1, queue={"size": 10})
        await lives.wait_for(await lives.submit("hold", "first"), "running")
        items = b"[%b]" % b",".join([submission("echo")] * 6)
        batch = request("POST", "/batches", "Content-Type: application/json", body=items)
        sent = [post(submission("echo"))] * 3 + [batch, batch] + [post(submission("echo"))] * 3
        clients = [lives.client() for _ in sent]
        for client, data in zip(clients, sent, strict=True):
            await client.send(data)
        answers = [(await client.read("POST")).status for client in clients]
        assert set(answers) == {202, 429}
        said = (await lives.ask(request("GET", "/stats"))).json["jobs"]
        taken = 6 * sum(status == 202 for status in answers[3:5]) + sum(s == 202 for s in answers[:3] + answers[5:])
        assert said["queued"] == taken <= 10
        await lives.end()

    run(test())
