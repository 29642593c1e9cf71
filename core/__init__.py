"""The engine: no sockets, no HTTP; imports nothing of ours outside this folder.

In reading order: ``config`` (with ``fields``) and ``errors``; ``job``, the life-cycle; ``ids``; ``board``, the rows and
the only place where a state changes; ``queue``, what waits, in a ``line`` over a ``ring`` if it is ready and on a
``schedule`` if not; ``estimate``, when to ask again; ``registry``, the tasks; ``workers``, who runs them, and
``context``, what they are told; ``results``; ``stats``; ``active``, the jobs that are not over; ``watchdog``;
``journal``, what is on disk, with ``batch``, how it gets there, ``schema``, the file, ``mark``, how a loss is noticed,
and ``replay``, reading it; and ``engine``, the facade over all of them.
"""
