"""The engine: no sockets, no HTTP; imports nothing of ours outside this folder.

In reading order: ``config`` and ``errors``; ``job`` (the life-cycle); ``ids``; ``board`` (the rows, the only
place where a state changes); ``ring`` and ``queue`` (what is ready, what is delayed); ``estimate`` (when to ask
again); ``registry`` (the tasks); ``workers`` and ``threads`` (who runs them); ``results``; ``stats``; and
``engine``, the facade over all of them.
"""
