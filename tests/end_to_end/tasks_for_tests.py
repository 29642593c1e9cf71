"""Tasks that tests need: they wait for a file, not for time."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import count as count_up
from pathlib import Path
from typing import Any

import msgspec
import uvloop

import headway

POLL_S = 0.005


@headway.task
async def nothing(_: object) -> None:
    """Return null."""


_counted = count_up()


@headway.task
async def count(_: object) -> int:
    """Return how many such jobs have run before."""
    return next(_counted)


@headway.task(keep=50)
async def kept_short(_: object) -> None:
    """Return nothing, and say how long that is kept."""


@headway.task
async def give(payload: Any) -> Any:
    """Return the payload."""
    return payload


@headway.task(retries=3)
async def stubborn_failure(payload: object) -> None:
    """Fail, as often as it is tried."""
    raise ValueError(payload)


@headway.task
async def note(payload: dict[str, Any]) -> int:
    """Write a number to the end of a file, as a line, and return it."""
    file = os.open(payload["path"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, b"%d\n" % payload["number"])
    os.close(file)
    return int(payload["number"])


@headway.task
async def until_file(path: Any) -> Any:
    """Wait for a file."""
    while not os.access(path, os.F_OK):  # noqa: ASYNC110 — another process makes the file
        await asyncio.sleep(POLL_S)
    return path


@headway.task
def thread_until_file(path: str, context: headway.Context) -> bool:
    """Wait for a file in a thread, whatever happens; return whether the attempt was cancelled meanwhile."""
    while not Path(path).exists():
        time.sleep(POLL_S)
    return context.cancelled


@headway.task
async def report(payload: dict[str, Any], context: headway.Context) -> None:
    """Report progress, then wait for a file."""
    context.progress(payload["percent"], payload.get("message", ""))
    await until_file(payload["path"])


@headway.task
async def log_texts(payload: dict[str, Any], context: headway.Context) -> None:
    """Log texts, and with a path wait for that file and log more."""
    for text in payload["texts"]:
        context.log(text)
    if "path" in payload:
        await until_file(payload["path"])
        for text in payload["more"]:
            context.log(text)


@headway.task
async def log_and_fail(_: object, context: headway.Context) -> None:
    """Log the attempt, and fail."""
    context.log(f"attempt {context.attempt}")
    raise ValueError


@headway.task
def log_lines(payload: dict[str, Any], context: headway.Context) -> None:
    """Log lines in a thread, with a pause after each."""
    for number in range(payload["count"]):
        context.log(f"line {number}")
        time.sleep(payload["pause"])


@headway.task
async def fail_until_attempt(number: int, context: headway.Context) -> int:
    """Fail until the attempt is ``number``."""
    if context.attempt < number:
        raise ValueError(f"attempt {context.attempt}")
    return context.attempt


@headway.task
async def octets(size: int) -> bytes:
    """Return so many bytes."""
    return b"\x00\xff" * (size // 2)


@headway.task
async def text(payload: dict[str, str]) -> headway.Result:
    """Return a text with a media type."""
    return headway.Result(payload["text"], payload["media_type"])


@headway.task
async def not_json(_: object) -> object:
    """Return what JSON does not have."""
    return object()


@headway.task
async def never_cancelled(_: object) -> None:
    """Go on, however often it is cancelled."""
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            continue


@headway.task
async def system_exit(_: object) -> None:
    """Raise what ends a program."""
    raise SystemExit(3)


@headway.task
async def note_context(_: object, context: headway.Context) -> dict[str, Any]:
    """Return what the attempt is told of itself."""
    return {"id": context.id, "attempt": context.attempt, "cancelled": context.cancelled}


@headway.task
def leave_behind(_: object) -> int:
    """Start a process that has all that the server has open, and does not end; return its id."""
    pid = os.fork()
    if not pid:
        # But for what the tests read to its end.
        os.closerange(0, 3)
        time.sleep(600)
        os._exit(0)
    return pid


@headway.task
async def end_at_once(code: int) -> None:
    """End the process of the server, on the loop."""
    os._exit(code)


@headway.task
def end_in_a_thread(code: int) -> None:
    """End the process of the server, in a thread."""
    os._exit(code)


@headway.task
def end_once_there_is(given: dict[str, Any]) -> None:
    """Wait for a file, then end the process of the server."""
    while not os.path.exists(given["path"]):
        time.sleep(POLL_S)
    os._exit(given["code"])


async def _exit(code: int) -> None:
    sys.exit(code)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@headway.task
async def end_the_program(how: str) -> str:
    """Do what ends a program, in the way that ``how`` names."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    if how == "wait_for":
        await asyncio.wait_for(_exit(5), 10)
    elif how == "gather":
        await asyncio.gather(_exit(5), asyncio.sleep(0))
    elif how == "group":
        async with asyncio.TaskGroup() as group:
            group.create_task(_exit(5))
    elif how == "to_thread":
        await asyncio.to_thread(sys.exit, 5)
    elif how == "forgotten":
        loop.create_task(_exit(5))
    elif how == "callback":
        loop.call_soon(_interrupt)
    elif how == "later":
        loop.call_later(0.01, sys.exit, 5)
    elif how == "done callback":
        task.add_done_callback(_interrupt)
    elif how == "close generator":
        raise GeneratorExit
    await asyncio.sleep(0.05)
    return how


@headway.task
async def touch_the_loop(how: str) -> None:
    """Call what would stop or change the loop for all."""
    loop = asyncio.get_running_loop()
    calls: dict[str, Callable[[], object]] = {
        "stop": loop.stop,
        "close": loop.close,
        "run": lambda: loop.run_until_complete(loop.create_future()),
        "task factory": lambda: loop.set_task_factory(None),
        "exception handler": lambda: loop.set_exception_handler(lambda *_: None),
        "executor": lambda: loop.set_default_executor(ThreadPoolExecutor()),
        "signal": lambda: loop.add_signal_handler(signal.SIGTERM, print),
        "no signal": lambda: loop.remove_signal_handler(signal.SIGTERM),
    }
    if how == "end executor":
        await loop.shutdown_default_executor()
    elif how == "generators":
        await loop.shutdown_asyncgens()
    else:
        calls[how]()


@headway.task
async def stop_the_loop_of_old(_: object) -> None:
    """Stop the loop by a way that does not ask whose it is."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, uvloop.Loop)
    uvloop.Loop.stop(loop)
    await asyncio.sleep(0.05)


@headway.task
async def stop_the_loop_from_a_thread(_: object) -> None:
    """Have a thread ask the loop to stop itself."""
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(loop.call_soon_threadsafe, loop.stop)
    await asyncio.sleep(0.05)


@headway.task
async def cancel_all(_: object) -> int:
    """Cancel all tasks there are, again and again; return how many were found."""
    found = 0
    for _ in range(20):
        for task in asyncio.all_tasks():
            found += task.cancel()
        await asyncio.sleep(0.01)
    return found


@headway.task
async def with_children(path: str) -> Any:
    """Wait for a file with tasks of its own."""
    return (await asyncio.gather(asyncio.wait_for(until_file(path), 30), asyncio.sleep(0.1, "")))[0]


@headway.task(retries=50)
async def fail_at_length(size: int) -> None:
    """Fail with so many characters."""
    raise RuntimeError("A" * size)


@headway.task
async def fail_with_surrogate(_: object) -> None:
    """Fail with a text that UTF-8 cannot hold."""
    raise RuntimeError("file \udcff here") from OSError("the \udcff cause")


@headway.task
async def signal_the_server(number: int) -> None:
    """Send a signal to the process that runs this."""
    os.kill(os.getpid(), number)
    await asyncio.sleep(0.05)


@headway.task
async def keep_all_threads(path: str) -> None:
    """Leave something that waits for a file in every thread that ``asyncio.to_thread`` has."""

    def wait() -> None:
        while not Path(path).exists():
            time.sleep(POLL_S)

    _kept.extend([asyncio.create_task(asyncio.to_thread(wait)) for _ in range(100)])
    await asyncio.sleep(0.05)


@headway.task
def keep_all_files(path: str, context: headway.Context) -> int:
    """Open files until there are no more, keep them until a file exists, and return their number."""
    files: list[int] = []
    with suppress(OSError):
        while True:
            files.append(os.open(os.devnull, os.O_RDONLY))
    context.progress(1.0)
    while not os.access(path, os.F_OK):
        time.sleep(POLL_S)
    for file in files:
        os.close(file)
    return len(files)


_kept: list[asyncio.Task[None]] = []


class Page(msgspec.Struct, forbid_unknown_fields=True):
    """A page of a book."""

    size: int


@dataclass
class Book:
    """Pages."""

    pages: list[Page]


@headway.task(max_concurrent=7)
async def scan(book: Book) -> list[Page]:
    """Return the pages, a size larger."""
    return [Page(page.size + 1) for page in book.pages]


@headway.task(body_bytes=100_000)
def content(body: headway.Body) -> headway.Result:
    """Return the content."""
    return headway.Result(body.data, body.media_type)


@headway.task(name="with / and é")
async def with_an_odd_name(_: object) -> None:
    """Do nothing."""
