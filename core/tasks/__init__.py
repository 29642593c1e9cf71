"""Tasks: the functions that a user declares, and the values that go in and come out.

In reading order: ``registry`` has ``@task`` and the functions that it declares, ``signature`` reads
how each is called, and ``importing`` has the import of their modules. ``context`` is the second
argument of such a function, with its ``task_log``, and ``retry`` has the exceptions that ask to run
it again later. ``around`` has context managers of the user's, and ``lifespan`` the life of one.
``payloads`` decodes the argument of a task, ``encoding`` and ``result`` encode its return value,
and ``failure`` describes its exceptions.
"""
