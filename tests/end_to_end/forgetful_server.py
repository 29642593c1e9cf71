"""A server on a disk that forgets what was not synced: ``python forgetful_server.py``, settings in HEADWAY_*."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Twice: see conftest.py.
sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / ".."))
sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.core.journal.forgetful_disk import install

# Before anything of ours opens a file.
system = install()

from headway.core.config_sources import load  # noqa: E402
from headway.core.journal.writer_link import WriterLink  # noqa: E402
from headway.protocol import server  # noqa: E402

if __name__ == "__main__":
    WriterLink.module = "tests.core.journal.forgetful_writer"
    server.run(load(None, os.environ))
