"""A task module that prints when it is imported, and ends the process if a variable says so."""

from __future__ import annotations

import os

import headway

print("imported")
os.write(2, b"by os.write\n")
if "HEADWAY_TEST_END" in os.environ:
    os.abort()


@headway.task
def nothing(_: object) -> None:
    """Do nothing."""
