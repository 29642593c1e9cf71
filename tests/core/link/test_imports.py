"""The extra ``valkey`` is for servers with ``engine`` alone: without it nothing of it is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

NAMES = "{'hiredis', 'redis', 'headway.core.valkey'}"
OPEN = """
import asyncio
import msgspec
import headway.protocol.server
from headway.core.config import Config
from headway.core.open import open_engine
from headway.core.tasks.registry import Registry
async def main():
    open_engine(msgspec.convert({"journal": {"path": None}}, Config), Registry(), print)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    "code",
    [
        "from headway import Context, Result, Retry, task",
        "import headway.cli.main, headway.cli.serve, headway.cli.jobs",
        OPEN,
    ],
    ids=["names", "commands", "server"],
)
def test_nothing_of_the_store_is_imported_without_one(code: str) -> None:
    end = f"\nimport sys; print({NAMES} & sys.modules.keys() or '')"
    said = subprocess.run([sys.executable, "-c", code + end], capture_output=True, text=True, check=True).stdout
    assert said.strip() == ""


def test_a_link_needs_no_redis_py() -> None:
    code = "import headway.core.link.topology, sys; print('redis' in sys.modules, 'hiredis' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False True"
