"""Memory that outlives the program in it: a file without a name, which the next image of the program maps again."""

from __future__ import annotations

import os


def nameless_file(name: str) -> int:
    """Return a descriptor of an empty file that no other process can open; ``name`` is what /proc calls it.

    It is in memory where the system has that (memfd_create(2)), else on disk. It is closed by an exec unless it is made
    inheritable. Raises OSError where there is neither.
    """
    try:
        return os.memfd_create(name)
    except (AttributeError, OSError):
        # macOS, or a Linux that forbids it. 2 ms, with shutil and its compressors.
        import tempfile

        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
