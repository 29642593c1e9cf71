"""Tasks for the tests of worker processes. A module of its own, which the processes import."""

from __future__ import annotations

import _thread
import ctypes
import decimal
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import msgspec
from headway.core.tasks.retry import Retry, Snooze

import headway

# A test can have this module fail, in the worker processes only.
BROKEN = os.environ.get("HEADWAY_TEST_BROKEN")
if BROKEN and Path(BROKEN).exists():
    raise RuntimeError("this module is broken on purpose")

POLL_S = 0.002
hoard: list[bytes] = []


class UnprintableError(Exception):
    """An error that is one itself."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@headway.task
def give(payload: Any) -> Any:
    """Return the payload."""
    return payload


@headway.task
def pid(_: object) -> int:
    """Return which process this is."""
    return os.getpid()


@headway.task
def nap(seconds: float) -> int:
    """Take some time, and return the id of this process."""
    time.sleep(seconds)
    return os.getpid()


SEEN: ContextVar[str] = ContextVar("seen", default="nobody")


@headway.task
def look_and_set(payload: str) -> list[str]:
    """Return the value in the context, and change it."""
    seen = [SEEN.get(), str(decimal.Decimal(1) / 3)]
    SEEN.set(payload)
    decimal.getcontext().prec = 3
    return seen


class Photo(msgspec.Struct):
    """A payload with a type."""

    size: int


@headway.task
def typed(photo: Photo) -> Photo:
    """Return the payload in a Struct again."""
    return Photo(photo.size + 1)


@headway.task
def ask_badly(_: object) -> None:
    """Ask for another attempt at no time."""
    retry = Retry()
    retry.delay = float("nan")
    raise retry


@headway.task
def ask_in_a_group(_: object) -> None:
    """Ask for another attempt as a task group does."""
    raise ExceptionGroup("group", [Retry(0.02), KeyError("x")])


@headway.task
def awaitable(_: object) -> object:
    """Return a coroutine, which nobody here can await."""

    async def coroutine() -> None:
        """Do nothing."""

    made = coroutine()
    made.close()
    return made


@headway.task
def note(_: object, context: headway.Context) -> list[Any]:
    """Return the members of the context of an attempt."""
    return [context.id, context.attempt, context.cancelled]


@headway.task
def picture(text: str) -> headway.Result:
    """Return a body with a media type."""
    return headway.Result(text, "image/svg+xml")


@headway.task
def octets(size: int) -> bytes:
    """Return so many bytes."""
    return bytes(size)


@headway.task
def report(path: str, context: headway.Context) -> None:
    """Report in a tight loop, then wait for a file."""
    for number in range(20_000):
        context.progress(number % 100)
    context.progress(42)
    until_file(path)


@headway.task
def until_file(path: str) -> None:
    """Wait for a file."""
    while not Path(path).exists():
        time.sleep(POLL_S)


@headway.task
def touch(path: str) -> None:
    """Say that it began, then do not end."""
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)


@headway.task(retry_on=ValueError)
def fail(how: str) -> object:
    """Raise, or return a value that is no result."""
    errors: dict[str, BaseException] = {
        "value": ValueError("no such luck"),
        "exit": SystemExit(3),
        "interrupt": KeyboardInterrupt(),
        "stop": StopIteration(),
        "base": BaseException("base"),
        "unprintable": UnprintableError(),
        "retry": Retry(2.5),
        "snooze": Snooze(2.5),
    }
    if how in errors:
        raise errors[how]
    return object() if how == "object" else bytes(200_000)


@headway.task
def die(how: str) -> None:
    """End the process."""
    if how == "exit":
        os._exit(3)
    if how == "segfault":
        ctypes.string_at(0)
    if how == "closing":
        os.closerange(3, 1000)
        time.sleep(60)
    if how == "garbage":
        os.closerange(0, 3)
        for fd in os.listdir("/proc/self/fd"):
            try:
                os.write(int(fd), b"no message of ours")
            except OSError:
                continue
        time.sleep(60)
    os.kill(os.getpid(), getattr(signal, how))
    time.sleep(60)


@headway.task
def noise(_: object) -> None:
    """Write where a channel might be, and close the stdin that it might read."""
    print("printed")
    sys.stdout.flush()
    os.write(1, b"written\n")
    os.close(0)


@headway.task
def speak(_: object, context: headway.Context) -> None:
    """Write in every way to stdout and stderr."""
    sys.stdout.write("half")
    sys.stdout.flush()
    sys.stdout.buffer.write(b"\xff\x1b[0m ")
    sys.stdout.flush()
    subprocess.run(["sh", "-c", "echo program"], check=True)
    context.log("logged")
    sys.stderr.write("error")
    ctypes.CDLL(None).printf(b" in C")


@headway.task
def mute(_: object) -> None:
    """Close stdout, which then leads nowhere."""
    os.close(1)


@headway.task
def last_words(how: str) -> None:
    """Print, and end without an answer."""
    print("last words", flush=True)
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


@headway.task
def flood(megabytes: int) -> None:
    """Print as fast as it goes."""
    for _ in range(megabytes):
        os.write(1, b"x" * (1 << 20))


@headway.task
def leave_a_program(_: object) -> None:
    """Leave a program that prints without end."""
    subprocess.Popen(["sh", "-c", "sleep 0.2; yes"])


# The way of ``hear`` to what ``leave`` has left: have it write, and wait until it has.
left: list[tuple[Callable[[], object], Callable[[], object]]] = []


@headway.task
def leave(how: str) -> None:
    """Leave something behind that writes in the next job."""
    there, begun, said = threading.Event(), threading.Event(), threading.Event()
    writes: dict[str, Callable[[], object]] = {
        "print": lambda: print("stray", flush=True),
        "stderr": lambda: sys.stderr.write("stray\n"),
        "bytes": lambda: sys.stdout.buffer.write(b"stray\n"),
        "log": lambda: logging.getLogger("left").warning("stray"),
    }

    def write() -> None:
        there.set()
        begun.wait()
        writes.get(how, writes["print"])()
        said.set()

    def start_another() -> None:
        begun.wait()
        threading.Thread(target=write, daemon=True).start()

    if how in ("program", "daemon"):
        asks, ask = os.pipe()
        tells, tell = os.pipe()
        command = f"(read line <&{asks}; echo stray)"
        shell = subprocess.Popen(["sh", "-c", command + (" &" if how == "daemon" else "; true")], pass_fds=(asks, tell))
        if how == "daemon":
            shell.wait()
        os.close(asks)
        os.close(tell)
        left.append((lambda: os.write(ask, b"\n"), lambda: os.read(tells, 1)))
        return
    left.append((begun.set, said.wait))
    if how == "nameless":
        _thread.start_new_thread(write, ())
        there.wait()
    else:
        threading.Thread(target=start_another if how == "timer" else write, daemon=True).start()


@headway.task
def hear(_: object) -> None:
    """Print while something that an earlier job has left behind does."""
    begin, wait = left.pop()
    sys.stdout.write("mine")
    begin()
    wait()
    print()
    thread = threading.Thread(target=print, args=("of my thread",))
    thread.start()
    thread.join()


@headway.task
def leave_a_flood(_: object) -> None:
    """Leave a thread that writes without end."""

    def write() -> None:
        while True:
            os.write(1, b"z" * 65536)

    threading.Thread(target=write, daemon=True).start()


@headway.task
def take(megabytes: int) -> int:
    """Take memory and keep it."""
    hoard.append(b"x" * (megabytes << 20))
    return os.getpid()


@headway.task
def fail_with(megabytes: int) -> None:
    """Fail with so much memory in a cycle of frames and errors."""
    data = b"x" * (megabytes << 20)
    try:
        raise ValueError(len(data))
    except ValueError as error:
        kept = error
        raise kept from None


@headway.task
def log_lines(count: int) -> None:
    """Log so many lines."""
    for number in range(count):
        logging.getLogger("shop").warning("line %d", number)


@headway.task
def files(_: object) -> list[str]:
    """Return the files that are open."""
    return [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/dev/fd/{fd}")]


@headway.task
def fork(_: object) -> int:
    """Start a process by fork, end it by SIGTERM, and return the signal that ended it."""
    child = os.fork()
    if not child:
        time.sleep(60)
    os.kill(child, signal.SIGTERM)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


@headway.task
def orphan(path: str) -> None:
    """Leave a process behind that holds all our files, and die."""
    child = os.fork()
    if not child:
        time.sleep(60)
    Path(path).write_text(str(child))
    os._exit(4)


@headway.task
def hold_the_interpreter(path: str) -> None:
    """Compute for hours in C, with the GIL held."""
    Path(path).touch()
    re.match(r"(a+)+$", "a" * 60 + "b")


@headway.task
def compute(seconds: float) -> None:
    """Keep a core busy."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        continue


@headway.task
def snooze_twice(path: str, context: headway.Context) -> int:
    """Add a line to a file, and snooze until it has three. Return the number of the attempt."""
    with Path(path).open("a") as file:
        file.write("x\n")
    if len(Path(path).read_text()) < 6:
        raise Snooze(0.01)
    return context.attempt


@headway.task(retry_on=ValueError)
def fail_with_a_cause(_: object) -> None:
    """Raise an error that has a cause."""
    try:
        raise KeyError("the cause")
    except KeyError as error:
        raise ValueError("the error") from error
