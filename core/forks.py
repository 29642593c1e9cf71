"""What a process that is forked from ours does not get.

A task may fork, by multiprocessing, os.fork or pty.fork. The child begins as a copy of us. With our descriptors it
would hold our port, our clients and our locks after we have ended; a signal that it gets would be told to our event
loop; and what a task returns in it would be a second answer. So before the child runs a line of its own

- all that ``keep`` and ``pipe`` were asked for is closed in it, and what ``in_child`` was given is called;
- the signals that we act on do what they do in any program;
- ``forked`` is true. Who calls a task calls ``end`` then, as soon as the task returns or raises.

A program that is executed, as by subprocess, inherits nothing of ours, and none of this concerns it.
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
forked = False

# Held while a descriptor is opened or closed, and while a thread forks: no child has one that is not in the set.
_lock = threading.RLock()
_kept: set[int] = set()
_callbacks: list[Callable[[], object]] = []
_signals: tuple[int, ...] = ()
# Of each thread, while it forks: the signals that it had blocked.
_masks = threading.local()


def pipe() -> tuple[int, int]:
    """Return the two ends of a pipe that children do not have: to read and to write."""
    with _lock:
        ends = os.pipe()
        _kept.update(ends)
    return ends


def keep(fd: int) -> int:
    """Have a descriptor closed in children; return it. It is to be closed by ``close``."""
    with _lock:
        _kept.add(fd)
    return fd


def close(fd: int) -> None:
    """Close a descriptor that is kept from children."""
    with _lock:
        _kept.discard(fd)
        os.close(fd)


def in_child(callback: Callable[[], object]) -> None:
    """Have ``callback`` called first thing in each child."""
    _callbacks.append(callback)


def own_signals(numbers: Iterable[int]) -> None:
    """Have these signals do in children what they do in any program."""
    global _signals
    _signals = tuple(numbers)


def end() -> NoReturn:
    """End a child that has come back from the task in which it was forked, as a program would end there."""
    error = sys.exception()
    code: object = 0
    if isinstance(error, KeyboardInterrupt):
        _end_by_sigint()
    if isinstance(error, SystemExit):
        code = 0 if error.code is None else error.code
    elif error is not None:
        code = 1
        with suppress(Exception):
            # Not by sys.stderr, of which a thread that is not there any more may have the lock.
            os.write(2, "".join(traceback.format_exception(error)).encode(errors="replace"))
    os._exit(code & 0xFF if isinstance(code, int) else 1)


def _before() -> None:
    _lock.acquire()
    # Else a signal that comes before the child is put right is told to us.
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
        # What the child itself opens and handles, its own children may have.
        _kept.clear()
        _callbacks.clear()
        _signals = ()
        try:
            _after()
        except KeyboardInterrupt:
            # It came before the child has begun, and nothing that is raised here would reach it.
            _end_by_sigint()


def _end_by_sigint() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.raise_signal(signal.SIGINT)


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
