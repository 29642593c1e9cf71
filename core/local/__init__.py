"""The engine in one process.

In reading order: ``engine`` is the facade. ``admission`` lets jobs in, and ``acting`` cancels or
changes those that are there. ``active`` decides each change of an unfinished job. ``changes`` is
the road from a decision to its effect: ``at_once`` in memory, ``durable`` with a journal. ``holds``
are the switches of tasks. ``reading`` makes the status of a job, ``catalogue`` that of a task with
its part of ``loads``, ``finding`` finds jobs by a filter, ``waiting`` are the clients that wait for
an end, and the ``recorder`` has the events of the board. ``orders`` are about many jobs at once.
``historian`` writes the history of the last hours. ``written_logs`` are the logs of jobs with a
journal. ``uncommitted`` has the changes that are not on disk yet, and ``restore`` reads those that
are. ``recovering`` stands in for the engine meanwhile. ``deploy`` hands all facts to the next
process.
"""
