"""Headway, a job server: POST a job, get 202 and a URL, read its state off a HEAD.

What a task module needs: ``task`` declares a task, ``Context`` is what it may ask for, ``Result`` is what it returns
when that is not a JSON value, ``Retry`` is what it raises to be tried again.
"""

from importlib.metadata import version

from headway.core.context import Context
from headway.core.registry import Retry, task
from headway.core.results import Result

__all__ = ["Context", "Result", "Retry", "__version__", "task"]

__version__ = version("headway")
