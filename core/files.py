"""Files that settings name. A pipe or a device is none: to open or to read it may wait for ever."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def opened(path: str | Path) -> BinaryIO:
    """Open a file to be read. Raises OSError, also for all that is no regular file."""
    # Without O_NONBLOCK a pipe waits here for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no regular file", os.fspath(path))
    return open(descriptor, "rb")


def content(path: str | Path) -> bytes:
    """Return the content of a file. Raises OSError, as ``opened`` does."""
    with opened(path) as file:
        return file.read()
