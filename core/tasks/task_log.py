"""``context.log``: called with a text it writes to the log of the job, otherwise it is a logger."""

from __future__ import annotations

import logging
from collections.abc import Callable

from headway.core.records import TASK_LOGGER

# Characters that are encoded at once, so that a long text costs no second one of its length.
CHUNK = 1 << 18


class TaskLog(logging.LoggerAdapter[logging.Logger]):
    """Writes lines to the log of a job, and by ``info``, ``warning`` and so on to the log of the server."""

    def __init__(self, write: Callable[[bytes], None], fields: dict[str, object]) -> None:
        super().__init__(logging.getLogger(TASK_LOGGER), fields)
        self._write = write

    def __call__(self, text: str) -> None:
        """Add a line, or several, to the log of the job: ``GET /jobs/{id}/log``."""
        text = str(text)
        if not text.endswith("\n"):
            text += "\n"
        for at in range(0, len(text), CHUNK):
            # UTF-8 has no surrogates, such as those of a file name that is no text.
            self._write(text[at : at + CHUNK].encode(errors="backslashreplace"))
