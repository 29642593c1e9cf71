"""Deploys again and again while somebody writes code: ``headway serve --reload``.

A thread waits until a file changes, and asks for a deploy as SIGHUP does. So the new program is
checked first, and the old one goes on serving if the new one would not start. Looked at are the
folders of the settings and of all modules that are imported from outside of Python and its
site-packages, each without the folders in it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

log = logging.getLogger(__name__)

# Seconds for which a deploy waits for jobs, and the end of the server.
DRAIN_S = 2.0
# Milliseconds without a further change after which a change counts, and between two looks at
# whether the thread should end.
QUIET_MS = 50
LOOK_MS = 500


class Watch:
    """The files of a program in development. Made before any of them is read."""

    def __init__(self, settings: Iterable[Path]) -> None:
        self._settings = {os.path.abspath(path) for path in settings}
        self._made = time.time()

    def start(self, deploy: Callable[[], object]) -> None:
        """Call ``deploy``, in a thread, after each change from when this was made."""
        folders = self.folders()
        thread = threading.Thread(target=self._run, args=(folders, deploy), name="reload", daemon=True)
        thread.start()

    def folders(self) -> list[str]:
        """Return the folders in which files count."""
        files = {*self._settings, *_modules()}
        return sorted(folder for folder in {os.path.dirname(file) for file in files} if os.path.isdir(folder))

    def counts(self, path: str) -> bool:
        """Whether the program has to be read again if this file changes."""
        return path.endswith(".py") or path in self._settings

    def _run(self, folders: list[str], deploy: Callable[[], object]) -> None:
        try:
            self._watch(folders, deploy)
        except (OSError, RuntimeError) as error:
            log.error("cannot watch %s: %s: changes are not noticed", ", ".join(folders), error)

    def _watch(self, folders: list[str], deploy: Callable[[], object]) -> None:
        from watchfiles import watch

        looks = watch(
            *folders,
            watch_filter=lambda _, path: self.counts(path),
            step=QUIET_MS,
            rust_timeout=LOOK_MS,
            yield_on_timeout=True,
            recursive=False,
        )
        # It logs how many changes there were.
        logging.getLogger("watchfiles").setLevel(logging.WARNING)
        for number, changes in enumerate(looks):
            changed = {path for _, path in changes}
            # The first look tells nothing of the time before it.
            if changed or (number == 0 and (changed := set(self._newer(folders)))):
                log.info("changed: %s", ", ".join(sorted(changed)))
                # The loop may have ended.
                with contextlib.suppress(RuntimeError):
                    deploy()

    def _newer(self, folders: list[str]) -> Iterator[str]:
        """Yield the files that have changed since this was made."""
        for folder in folders:
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                yield from (e.path for e in entries if self.counts(e.path) and e.stat().st_mtime > self._made)


def _modules() -> set[str]:
    """Return the files of the user's modules."""
    import sysconfig

    # A venv may be in the folder of the project, and the project in /usr, beside the system's Python. Debian
    # links a file of that to /etc.
    pythons = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    if sys.prefix != sys.base_prefix:
        pythons.add(sys.prefix)
    folders = tuple(f"{path}{os.sep}" for folder in pythons for path in {folder, os.path.realpath(folder)})
    found = set()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not file or name.partition(".")[0] in ("headway", "__main__"):
            continue
        if "site-packages" in file or "dist-packages" in file:
            continue
        if not any(path.startswith(folders) for path in (os.path.abspath(file), os.path.realpath(file))):
            found.add(os.path.abspath(file))
    return found
