"""Tests of the tasks. Run them with pytest: pip install pytest, then python -m pytest."""

import tasks


def test_greet():
    assert tasks.greet({"name": "Ada"}) == {"greeting": "Hello, Ada!"}
