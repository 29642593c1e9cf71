"""The two tasks that every queue runs, and the file in which they note when each job was sent and when it was over.

A note is 16 bytes, appended in one write, so any number of processes can share the file. Times are of CLOCK_MONOTONIC,
which on Linux is one for all processes.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time

FILE_VARIABLE = "BENCH_QUEUES_FILE"
NOTE = struct.Struct("dd")
NAP_VARIABLE = "BENCH_QUEUES_NAP_S"
NAP_S = float(os.environ.get(NAP_VARIABLE, "0.01"))

_file = -1


def _note(sent: float) -> None:
    global _file
    if _file < 0:
        _file = os.open(os.environ[FILE_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(_file, NOTE.pack(sent, time.monotonic()))


def noop(sent: float) -> None:
    """Do nothing."""
    _note(sent)


def nap(sent: float) -> None:
    """Wait NAP_S."""
    time.sleep(NAP_S)
    _note(sent)


async def noop_async(sent: float) -> None:
    """Do nothing."""
    _note(sent)


async def nap_async(sent: float) -> None:
    """Wait NAP_S."""
    await asyncio.sleep(NAP_S)
    _note(sent)
