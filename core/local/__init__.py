"""The engine in one process.

In reading order: ``engine`` is the facade, and ``chores`` are what it does each second.
``admission`` lets jobs in, ``receipts`` answer for them, and ``acting`` cancels or changes those
that are there. ``active`` decides each change of an unfinished job. ``changes`` is the road from a
decision to its effect: ``at_once`` in memory, ``durable`` with a journal. ``holds`` are the
switches of tasks. ``reading`` makes the status of a job, ``details`` are what is kept of it
besides, ``catalogue`` has the status of a task with its part of ``loads``, ``counting`` counts all,
``finding`` finds jobs by a filter, ``waiting`` are the clients that wait for an end, and the
``recorder`` has the events of the board. ``orders`` are about many jobs at once. ``historian``
writes the history of the last hours. ``written_logs`` are the logs of jobs with a journal.
``uncommitted`` has the changes that are not on disk yet, and ``restore`` reads those that are.
``deploy`` hands all facts to the next process, and ``salvage`` tells of what a crashed one has
left.
"""
