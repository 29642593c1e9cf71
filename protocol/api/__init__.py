"""The routes and their answers.

In reading order: HTTP serves ``app``. All routes share ``service``. ``routes`` is the one table of
them: each ``operation`` has a function in ``submissions`` (with ``bodies`` for the content),
``contents``, ``jobs`` (with ``queries`` and ``filters`` for the query), ``revisions``, ``orders``,
``events``, ``logs``, ``batches``, ``tasks``, ``health``, ``history``, ``audit``, ``dashboard`` or
``description``, and the words that describe it. Its answer may be ``awaited``. ``preconditions``
are those of changes. ``headers`` describe a job for HEAD, ``documents`` for GET. ``polls`` is HEAD
of a job again, which is nearly all traffic. ``metrics`` and ``stats`` have the counts: ``series``
those by task, ``processes`` those of our processes, ``load`` those of what waits.

``description`` serves the table to clients: ``openapi`` to programs, ``pages`` to persons. Its words
are kinds of ``answers``, header ``fields`` and ``schemas`` of documents. A ``page`` is kept, and
what takes long is ``made`` in a thread.
"""
