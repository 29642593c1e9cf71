"""The engine: no sockets, no HTTP; imports nothing of ours outside this folder.

In reading order: ``config`` (with ``fields``) and ``errors``; ``job``, the life-cycle; ``ids``; ``rows``, one for each
job, found by their ``numbers`` where they have moved, ``board``, the only place where a state changes, and ``memory``,
where they lie; ``queue``, what waits, in a ``line`` over a ``ring`` if it is ready and on a ``schedule`` if not;
``payloads``, from JSON to what a task gets; ``slices``, what is too long for one turn of the loop, and ``oldest``;
``estimate``, when to ask again, and ``pace``, how many may at once; ``registry``, the tasks; ``workers``, who runs
them, ``context``, what they are told, and ``outcome``, how it went; ``threads``, in which plain functions run;
``forks``, what children of a task do not get;
``processes``, each a ``process`` seen from here, begun as a new ``interpreter``, the ``messages`` between, ``child``,
which runs there, ``sender``, by which it answers, and ``orphans``, what it leaves when it is killed; ``records``, what
is logged; ``results``, made by ``encoding``; ``keys``, under which a job may come twice; ``stats``;
``active``, the jobs that are not over; ``waiters``, who waits for their end; ``durable``, active jobs that are kept on
disk, and what is ``owed`` to it; ``restoring``, how they come back; ``batches``, jobs that came together, and the
``outcomes`` of those that are not kept; ``carried``, what one image of the program leaves to the next; ``watchdog``;
and ``engine``, the facade over all of them, with ``reading``, what is said of a job, ``admission``, how one is let in,
and ``opening``, until it is there. The folder ``journal`` has what is on disk.
TODO: ``attempt``, ``failure``.
"""
