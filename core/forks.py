"""The things of ours that a forked process does not get.

A task may fork, by multiprocessing, os.fork or pty.fork. The child begins as a copy of us. With our
descriptors it would hold our port, our clients and our locks after our end. Its signals would reach
our event loop. A task that returns in it would give a second answer. So before the child runs a
line of its own

- all that ``keep`` and ``pipe`` know is closed in it, and each callback of ``in_child`` is called
- the signals that we act on do in it as they do in any program
- ``forked`` is true. The caller of a task then calls ``end`` as soon as the task returns or raises

A program that is executed, as by subprocess, inherits nothing of ours, and none of this concerns
it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NoReturn

# Whether this process was forked from one of ours.
# Seam: servers of tests are forked from a process that has imported everything, and begin as if they were not.
forked = False

# Held while a descriptor is opened or closed, and while a thread forks: so every descriptor in a
# child is in the set.
_lock = threading.RLock()
_kept: set[int] = set()
_callbacks: list[Callable[[], object]] = []
_signals: tuple[int, ...] = ()
# For each thread, while it forks: the signals that it had blocked.
_masks = threading.local()


def pipe() -> tuple[int, int]:
    """Return the two ends of a pipe that children do not have: for reading and for writing."""
    with _lock:
        ends = os.pipe()
        _kept.update(ends)
    return ends


def keep(fd: int) -> int:
    """Have a descriptor closed in children, and return it. Close it by ``close``."""
    with _lock:
        _kept.add(fd)
    return fd


def close(fd: int) -> None:
    """Close a descriptor that is kept from children."""
    with _lock:
        _kept.discard(fd)
        os.close(fd)


def in_child(callback: Callable[[], object]) -> None:
    """Have ``callback`` called in each child before all else."""
    _callbacks.append(callback)


def own_signals(numbers: Iterable[int]) -> None:
    """Have these signals do in children as they do in any program."""
    global _signals
    _signals = tuple(numbers)


def end() -> NoReturn:
    """End a child that came back from the task that forked it, as a program would end there."""
    error = sys.exception()
    code: object = 0
    if isinstance(error, KeyboardInterrupt):
        _end_by_sigint()
    if isinstance(error, SystemExit):
        code = 0 if error.code is None else error.code
    elif error is not None:
        code = 1
        with suppress(Exception):
            # Not by sys.stderr: a thread that the child does not have may hold its lock.
            os.write(2, "".join(traceback.format_exception(error)).encode(errors="replace"))
    os._exit(code & 0xFF if isinstance(code, int) else 1)


def _before() -> None:
    _lock.acquire()
    # Otherwise a signal that comes before the child is put right would reach us.
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _signals)


def _after() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)
    _lock.release()


def _after_in_child() -> None:
    global forked, _signals
    forked = True
    try:
        for fd in _kept:
            with suppress(OSError):
                os.close(fd)
        if _signals:
            signal.set_wakeup_fd(-1)
        for number in _signals:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        for callback in _callbacks:
            with suppress(Exception):
                callback()
    finally:
        # The child's own children may have the things that it opens and handles itself.
        _kept.clear()
        _callbacks.clear()
        _signals = ()
        try:
            _after()
        except KeyboardInterrupt:
            # It came before the child began. An exception raised here would not reach the child.
            _end_by_sigint()


def _end_by_sigint() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.raise_signal(signal.SIGINT)


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
