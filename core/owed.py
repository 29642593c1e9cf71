"""What is owed to the journal: a change that is not committed yet, what is to be shown then, and who waits for it."""

from __future__ import annotations

from collections.abc import Callable


class Owed:
    """What is to be shown when change number ``change`` is committed, and who waits for that."""

    __slots__ = ("change", "show", "undo", "watchers")

    def __init__(self, change: int, show: Callable[[], None], undo: Callable[[], None] | None = None) -> None:
        self.change = change
        self.show = show
        # What to do if it is rejected, which only a submission can be.
        self.undo = undo
        self.watchers: list[Watcher] = []

    def wake(self) -> None:
        """Wake who waits."""
        # Taken out, since each of them knows this one: a cycle, which only the garbage collector would find.
        watchers, self.watchers = self.watchers, []
        for watcher in watchers:
            watcher.wake()


class Watcher:
    """Waits for a commit; ``wake`` is called once, whether it succeeds or is given up, unless cancelled before."""

    __slots__ = ("_owed", "wake")

    def __init__(self, owed: Owed, wake: Callable[[], None]) -> None:
        self._owed = owed
        self.wake = wake
        owed.watchers.append(self)

    def cancel(self) -> None:
        """Wait no more."""
        if self in self._owed.watchers:
            self._owed.watchers.remove(self)

    def hurry(self) -> None:
        """Wait on: what is not committed cannot be told."""
