"""A store that came back without its last jobs: an old backup, or a replica that had not got them."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.process import launch, wait_until
from tests.valkey_servers import serving


def test_no_id_is_given_to_a_second_job(tmp_path: Path) -> None:
    with serving(tmp_path / "store") as store, launch(tmp_path, {"engine": store.url}) as server:
        before = server.run("give", 1)
        store.ask("SAVE")
        lost = [server.run("give", number) for number in (2, 3)]
        server.expected_errors.append("store")
        store.restart()
        wait_until(lambda: server.get("/readyz").status, lambda status: status == 200)
        new = [server.run("give", number) for number in (4, 5, 6)]
        assert server.get(f"{before}/result").json == 1
        assert set(new).isdisjoint(lost)
        # The job is gone, and not another one.
        assert [server.head(job).status for job in lost] == [410, 410]
        assert [job["id"] for job in server.get("/jobs").json["jobs"]] == [job[6:] for job in (*new[::-1], before)]
