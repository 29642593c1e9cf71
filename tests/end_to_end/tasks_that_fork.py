"""Tasks that make processes of their server, or of their worker process, and leave them where they may do harm."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import logging
import logging.config
import multiprocessing
import os
import pty
import signal
import sys
import time
from pathlib import Path
from typing import Any

import headway

# Where the handlers of atexit write, and whether one of them hangs.
AT_EXIT = os.environ.get("TEST_AT_EXIT", "")
if AT_EXIT:
    if os.environ.get("TEST_AT_EXIT_HANGS"):
        atexit.register(time.sleep, 600)
    atexit.register(lambda: Path(f"{AT_EXIT}-{os.getpid()}").write_text("flushed"))
if os.environ.get("TEST_DICT_CONFIG"):
    # As frameworks do: all loggers that there are are disabled.
    logging.config.dictConfig({"version": 1})


def square(number: int) -> int:
    """What children do."""
    return number * number


@headway.task
def terminated(_: object) -> int | None:
    """End a child by SIGTERM, and return how it ended."""
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    child.terminate()
    child.join()
    return child.exitcode


@headway.task
def hung_up(_: object) -> list[int]:
    """End forked children by each signal that the server acts on, and return by which they ended."""
    ended = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        begun, begins = os.pipe()
        child = os.fork()
        if not child:
            os.write(begins, b".")
            time.sleep(60)
            os._exit(0)
        if number == signal.SIGINT:
            # It raises KeyboardInterrupt there, which comes back from the task. Python drops one that comes while the
            # child still calls the functions registered for a fork.
            os.read(begun, 1)
        os.kill(child, number)
        os.close(begun)
        os.close(begins)
        ended.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    return ended


@headway.task
def pooled(numbers: list[int]) -> list[int]:
    """Have a pool of children work."""
    with multiprocessing.get_context("fork").Pool(2) as children:
        return children.map(square, numbers)


@headway.task
def spawned(numbers: list[int]) -> list[int]:
    """Have a pool of new Pythons work."""
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as children:
        return list(children.map(abs, numbers))


@headway.task
def executed(numbers: list[int]) -> list[int]:
    """Have children of a ProcessPoolExecutor work."""
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as children:
        return list(children.map(square, numbers))


def comes_back(how: str) -> str:
    """Fork a child that returns, raises or exits, in the midst of the task."""
    child = pty.fork()[0] if how == "pty" else os.fork()
    if child:
        return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    if how == "raises":
        # What it says on stderr is not what the test is about.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        raise RuntimeError("of the child")
    if how == "exits":
        sys.exit(7)
    return "the child's"


thread_comes_back = headway.task(name="thread_comes_back")(comes_back)
process_comes_back = headway.task(name="process_comes_back", run_in="process")(comes_back)


@headway.task
async def loop_comes_back(how: str) -> str:
    """Do the same on the event loop."""
    return comes_back(how)


@headway.task
async def child_awaits(_: object) -> bool:
    """Fork a child that goes on waiting for the loop; return whether it ended, and not well."""
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        await asyncio.sleep(0.01)
        os._exit(0)
    while True:
        await asyncio.sleep(0.01)
        pid, status = os.waitpid(child, os.WNOHANG)  # noqa: ASYNC222 — it does not wait
        if pid:
            return status != 0


@headway.task
def child_reports(_: object, context: headway.Context) -> None:
    """Report progress from a child, which has no part in the job."""
    child = os.fork()
    if not child:
        context.progress(77)
        os._exit(0)
    os.waitpid(child, 0)


@headway.task(run_in="process")
def answers_late(path: str) -> str:
    """Return at once, and leave a child that returns once there is a file."""
    if os.fork():
        return "first"
    while not Path(path).exists():
        time.sleep(0.005)
    return "second"


@headway.task(run_in="process")
def wait_in_process(seconds: float) -> str:
    """Take some time in the worker process."""
    time.sleep(seconds)
    return "its own"


@headway.task(run_in="process")
def starts_program(path: str) -> None:
    """Start a program, say which, and wait for it."""
    program = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
    program.start()
    Path(path).write_text(f"{program.pid}")
    program.join()


@headway.task
def chdir(path: str) -> None:
    """Enter another directory, in the server."""
    os.chdir(path)


@headway.task(run_in="process")
def give_in_process(payload: Any) -> Any:
    """Return the payload."""
    return payload


@headway.task(run_in="process")
def pid_in_process(_: object) -> int:
    """Return which process this is."""
    return os.getpid()


@headway.task(run_in="process")
def crash(_: object) -> None:
    """End the worker process."""
    os._exit(1)


@headway.task(run_in="process")
def logs_in_process(text: str) -> None:
    """Log at three levels."""
    for level in (logging.DEBUG, logging.INFO, logging.ERROR):
        logging.getLogger("shop").log(level, "%s at %s", text, logging.getLevelName(level))
    try:
        raise ValueError("caf\udce9")
    except ValueError:
        logging.getLogger("shop").exception("caught")


@headway.task
def configures_logging(how: str) -> None:
    """Do to logging what programs do."""
    if how == "dictConfig":
        logging.config.dictConfig({"version": 1, "root": {"level": "CRITICAL"}})
    elif how == "basicConfig":
        logging.basicConfig(force=True, stream=sys.stderr, level=logging.CRITICAL)
    elif how == "disable":
        logging.disable()
    elif how == "shutdown":
        logging.shutdown()
    elif how == "close":
        sys.stdout.close()
        os.close(1)


@headway.task
def prints(count: int) -> int:
    """Print so many lines of 1,000 characters."""
    for _ in range(count):
        print("x" * 999)
    return count


@headway.task
def logs(count: int) -> int:
    """Log so many lines of 1,000 characters."""
    for _ in range(count):
        logging.getLogger("shop").warning("x" * 1000)
    return count


@headway.task
def warns(_: object) -> None:
    """Raise where nobody can catch it."""

    class Unlucky:
        def __del__(self) -> None:
            raise RuntimeError("in a finalizer")

    Unlucky()
