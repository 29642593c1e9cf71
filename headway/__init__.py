"""Headway, a job server: POST a job, get 202 and a URL, read its state off a HEAD.

Names for a task module: ``task`` declares a task, ``around`` a context manager around each attempt,
``lifespan`` one around the life of the process. ``Context`` answers questions about the attempt.
``Body`` is a payload, and ``Result`` a return value, that is not JSON. ``Retry`` is the error that
asks for another attempt, and ``Snooze`` the one that asks for a later time. ``Client`` and
``AsyncClient`` submit jobs and wait for them.
"""

import os
from typing import TYPE_CHECKING

# In a checkout the other folders stand beside this one (docs/adr/0003). If the checkout is the
# current directory and ``python -m headway`` the command, Python finds this one before any
# installation.
if not os.path.isdir(os.path.join(os.path.dirname(__file__), "core")):
    __path__.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

if TYPE_CHECKING:
    from headway.client.coroutines import AsyncClient
    from headway.client.threads import Client
    from headway.core.body import Body
    from headway.core.tasks.context import Context
    from headway.core.tasks.registry import around, lifespan, task
    from headway.core.tasks.result import Result
    from headway.core.tasks.retry import Retry, Snooze

    __version__: str

__all__ = ["AsyncClient", "Body", "Client", "Context", "Result", "Retry", "Snooze", "around", "lifespan", "task"]

# The module of each name. A name is imported at its first use: all of them take 25 ms, and neither
# ``headway --help`` nor the journal's writer uses one.
HOMES = {
    "AsyncClient": "client.coroutines",
    "Body": "core.body",
    "Client": "client.threads",
    "Context": "core.tasks.context",
    "Result": "core.tasks.result",
    "Retry": "core.tasks.retry",
    "Snooze": "core.tasks.retry",
    "around": "core.tasks.registry",
    "lifespan": "core.tasks.registry",
    "task": "core.tasks.registry",
}


def __getattr__(name: str) -> object:
    """Return a name of the package at its first use, the version at each."""
    if name == "__version__":
        from importlib.metadata import version

        return version("headway")
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(f"headway.{HOMES[name]}"), name)
    globals()[name] = found
    return found
