"""Tests of the tasks. Run them with pytest: pip install pytest, then python -m pytest."""

from headway import testing

import tasks


def test_greet():
    assert testing.run(tasks.greet, {"name": "Ada"}) == {"greeting": "Hello, Ada!"}


def test_a_job_and_its_result():
    with testing.Server("tasks") as server:
        job = server.submit("greet", {"name": "Ada"})
        server.run_until_idle()
        assert server.get(f"{job}/result").json() == {"greeting": "Hello, Ada!"}
