"""An engine in another process: gateways read its rows by themselves, and ask it for all else.

In reading order: ``wire`` has the frames between the two, and ``link`` is a connection. ``engine``
is what a gateway has for an engine, which it can ``reach``. Its ``calls`` are open until they are
answered, its ``feeds`` bring events to its ``readers``, and its ``waiting`` clients look at rows.
What it has ``seen`` of the engine are the ``rows``, the ``lines`` of ready jobs, and all else as it
is ``standing``. ``statuses`` are made of that. At the other end ``links`` carry out calls and tell
all that the engine is ``showing``.
"""
