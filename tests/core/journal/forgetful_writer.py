"""A writer of the journal on a disk that forgets what was not synced; see ``WriterLink.module`` and forgetful_disk."""

from __future__ import annotations

from typing import Any

from headway.core.journal import writer

from tests.core.journal.forgetful_disk import install


def main(**given: Any) -> None:
    """Write as the real one does."""
    system = install()
    writer.main(**given)
    system.unregister()
