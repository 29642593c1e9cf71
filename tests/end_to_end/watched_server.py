"""A server whose journal has a writer that is watched: ``python watched_server.py PATH PORT``.

The writer says what it has synced (watched_writer).
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
from headway.core.config import Config, JournalSection, ServerSection
from headway.core.journal.writer_link import WriterLink
from headway.protocol import server


def main(path: str, port: str) -> None:
    """Serve until SIGTERM."""
    WriterLink.module = "tests.core.journal.watched_writer"
    config = Config(server=ServerSection(port=int(port)), journal=JournalSection(path=path), tasks=("examples.tasks",))
    server.run(msgspec.structs.replace(config, drain_linger=0.0))


if __name__ == "__main__":
    # Twice: see conftest.py.
    sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / ".."))
    sys.path.insert(0, str(Path(__file__).parents[2]))
    main(*sys.argv[1:])
