"""The code of jobs beside that of the server, on one event loop: whose runs, and what each sees of the other.

Our tasks and those of jobs are left out of ``asyncio.all_tasks()``, which is empty on this loop. A
job that cancels all tasks cancels none of another job, and none of the server's. The maker of a
task can still cancel it.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _unregister_task
from collections.abc import Coroutine
from contextvars import Context as Variables
from contextvars import ContextVar
from functools import cache
from typing import Any

# The task whose code runs: in its function, in the tasks and callbacks that it makes, in its
# thread. None: the server's code.
RUNNING: ContextVar[str | None] = ContextVar("headway_running", default=None)


def variables_of(name: str) -> Variables:
    """Make the context in which a function of task ``name`` begins. It has nothing of ours but RUNNING."""
    return _first_variables(name).copy()


@cache
def _first_variables(name: str) -> Variables:
    variables = Variables()
    variables.run(RUNNING.set, name)
    return variables


def hide_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Have every task that is made on ``loop`` from now on left out of ``asyncio.all_tasks()``."""
    loop.set_task_factory(_hidden)  # type: ignore[arg-type]  # the protocol in typeshed names its parameters


def _hidden(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
    task = asyncio.Task(coroutine, loop=loop, **options)
    _unregister_task(task)
    return task
