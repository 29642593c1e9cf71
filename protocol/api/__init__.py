"""The routes and their answers.

In reading order: HTTP serves ``app``. All routes share ``service``. ``routes`` lead from method and
path to a function in ``submissions`` (with ``bodies`` for the content), ``contents``, ``jobs``
(with ``queries`` for the query), ``batches``, ``tasks`` or ``health``. ``headers`` describe a job
for HEAD, ``documents`` for GET. ``polls`` is HEAD of a job again, which is nearly all traffic.
``metrics`` and ``stats`` have the counts.
"""
