"""The way to an engine that may end at any time: nothing of it is left then."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest
from headway.core.gateway.reach import Reach
from headway.core.gateway.wire import HELLO, frame
from headway.core.memfile import nameless_file

from tests.core.engines import until
from tests.lives.server import linux

NAME = "headway-rows-of-a-test"


def open_files() -> int:
    """How many descriptors of the rows this process has."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            found += NAME in os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            # That of the list itself.
            continue
    return found


@linux
@pytest.mark.parametrize("said", [b"", frame(HELLO, 0, b"no hello")], ids=["nothing", "hello"])
async def test_rows_of_an_engine_that_has_ended_are_not_kept(said: bytes, tmp_path: Path) -> None:
    loop, reached, rows = asyncio.get_running_loop(), 0, nameless_file(NAME)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as engine:
        engine.bind(str(tmp_path / "engine"))
        engine.listen()
        engine.setblocking(False)

        def let_in() -> None:
            nonlocal reached
            connected, _ = engine.accept()
            socket.send_fds(connected, [b"\1"], [rows])
            connected.send(said)
            connected.close()
            reached += 1

        loop.add_reader(engine, let_in)
        reach = Reach(str(tmp_path / "engine"), lambda fd, kind, number, message: None, int)
        reach.start()
        await until(lambda: reached == 3)
        await until(lambda: reach.link is None)
        loop.remove_reader(engine)
        await reach.stop()
    assert open_files() == 1
    os.close(rows)
