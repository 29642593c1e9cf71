"""Headway, a job server: POST a job, get 202 and a URL, read its state off a HEAD.

What a task module needs: ``task`` declares a task, ``Context`` is what it may ask for, ``Result`` is what it returns
when that is not a JSON value, ``Retry`` is what it raises to be tried again.
"""

import os

# In a checkout the other folders stand beside this one (docs/adr/0003). Python finds this one before any installation
# where the checkout is the current directory and ``python -m headway`` the command.
if not os.path.isdir(os.path.join(os.path.dirname(__file__), "core")):
    __path__.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from headway.core.tasks.context import Context
from headway.core.tasks.registry import task
from headway.core.tasks.result import Result
from headway.core.tasks.retry import Retry

__all__ = ["Context", "Result", "Retry", "task"]


def __getattr__(name: str) -> str:
    """Look up the version only when it is asked for: that takes half of what importing this package does."""
    if name == "__version__":
        from importlib.metadata import version

        return version("headway")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
