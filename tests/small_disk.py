"""A file system of so many bytes, so that a disk can be full."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def mounted(folder: Path, mib: int) -> Iterator[Path]:
    """Mount a file system of ``mib`` MiB at ``folder``, which is made. Raises PermissionError where none can be."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        raise PermissionError("a file system can be mounted by root only")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[Path]:
    """Do as ``mounted``; skip the test where that is not allowed."""
    with ExitStack() as stack:
        try:
            stack.enter_context(mounted(folder, mib))
        except PermissionError as error:
            pytest.skip(str(error))
        yield folder


def fill(disk: Path) -> Path:
    """Fill a disk to the last byte, and return what fills it."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert os.statvfs(disk).f_bavail == 0
    return ballast
