"""The engine: no sockets, no HTTP; imports nothing of ours outside this folder.

In reading order: ``config`` (with ``fields``) and ``errors``; ``job``, the life-cycle; ``ids``; ``board``, the rows and
the only place where a state changes; ``ring`` and ``queue``, what is ready and what is delayed; ``estimate``, when to
ask again; ``registry``, the tasks; ``workers``, who runs them, and ``context``, what they are told; ``results``;
``stats``; and ``engine``, the facade over all of them.
"""
