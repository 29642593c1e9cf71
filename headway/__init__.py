"""Headway, a job server: POST a job, get 202 and a URL, read its state off a HEAD.

What a task module needs: ``task`` declares a task, ``Context`` is what it may ask for, ``Result`` is what it returns
when that is not a JSON value, ``Retry`` is what it raises to be tried again.
"""

import os
from typing import TYPE_CHECKING

# In a checkout the other folders stand beside this one (docs/adr/0003). Python finds this one before any installation
# where the checkout is the current directory and ``python -m headway`` the command.
if not os.path.isdir(os.path.join(os.path.dirname(__file__), "core")):
    __path__.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

if TYPE_CHECKING:
    from headway.core.tasks.context import Context
    from headway.core.tasks.registry import task
    from headway.core.tasks.result import Result
    from headway.core.tasks.retry import Retry

    __version__: str

__all__ = ["Context", "Result", "Retry", "task"]

# Where each name is. A name is imported at its first use: all of them take 25 ms, and neither ``headway --help`` nor
# the journal's writer uses one.
HOMES = {"Context": "context", "Result": "result", "Retry": "retry", "task": "registry"}


def __getattr__(name: str) -> object:
    """Return a name of the package at its first use, the version at each."""
    if name == "__version__":
        from importlib.metadata import version

        return version("headway")
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(f"headway.core.tasks.{HOMES[name]}"), name)
    globals()[name] = found
    return found
