"""Memory that outlives its process: a file without a name, which the next process maps again."""

from __future__ import annotations

import os


def nameless_file(name: str) -> int:
    """Return a descriptor of an empty file that no other process can open. /proc shows ``name``.

    It is in memory if the system has such files (memfd_create(2)), else on disk. An exec closes it
    unless it is made inheritable. Raises OSError if neither works.
    """
    try:
        return os.memfd_create(name)
    except (AttributeError, OSError):
        # macOS, or a Linux that forbids it. 2 ms, with shutil and its compressors.
        import tempfile

        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
