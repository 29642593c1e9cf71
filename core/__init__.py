"""The engine: no sockets, no HTTP; imports nothing of ours outside this folder.

In reading order:

- words: ``config`` (with ``fields``) and ``errors``; ``job``, the life-cycle; ``ids``; ``stats``; ``slices``, what is
  too long for one turn of the loop, and ``oldest``, entries in the order in which they came;
- the board: ``rows``, one for each job, found by their ``numbers`` where they have moved, ``board``, the only place
  where a state changes, ``memory``, where they lie, ``outcomes`` of jobs of batches, and ``carried``, what one image of
  the program leaves to the next;
- what waits: ``queue``, in a ``line`` over a ``ring`` if it is ready and on a ``schedule`` if not;
- when to ask again: ``estimate``, from run times, at first of one ``generation``, and ``pace``, how many may at once;
- tasks: ``registry``; ``context``, what one is told; ``payloads``, what it gets; ``results``, what it returns, made by
  ``encoding``; ``keys``, under which a job may come twice;
- running: ``workers``, how many; ``attempt``, how one runs; ``outcome``, how it went, and ``failure``, what an
  exception says; ``threads``; ``records``, what is logged;
- in processes: ``processes``, each a ``process`` seen from here, begun as a new ``interpreter``; the ``messages``
  between; ``child``, which runs there, ``sender``, by which it answers; ``forks``, what children of a task do not get,
  and ``orphans``, what a process leaves when it is killed;
- the whole: ``active``, the jobs that are not over; ``waiters``, who waits for their end; ``durable``, active jobs that
  are kept on disk, and what is ``owed`` to it; ``restoring``, how they come back; ``batches``, jobs that came together;
  ``reading``, what is said of a job; ``admission``, how one is let in; ``watchdog``; ``engine``, the facade over all of
  them, and ``opening``, until it is there. The folder ``journal`` has what is on disk.
"""
