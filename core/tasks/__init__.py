"""Tasks: what a user declares, and the values that go in and come out.

In reading order: ``registry`` has ``@task`` and the functions that it declares, ``context`` is the second argument of
such a function and ``retry`` the exception that asks for another attempt. ``payloads`` decodes what a task gets,
``encoding`` and ``result`` encode what it returns, and ``failure`` describes what it raises.
"""
