"""The board: a row for every job, and all that is found by a job's number.

In reading order: ``rows`` has the columns and the row of each job in them, ``numbers`` the order
of the jobs that moved. ``board`` alone changes a state. ``batches`` reads jobs
that came together, and ``outcomes`` counts how the expired ones ended. ``tags`` are the jobs by
their tags, and ``search`` finds jobs by all of this. ``results``, ``past_attempts``, ``logs`` and
``idempotency`` keep results, failed attempts, logs and keys within their budgets, the ``oldest``
given up first.
"""
