"""The engine on Valkey or Redis: many nodes, one store.

In reading order: ``address`` is the URL of the store. ``reply_error`` has the ways in that a call
can fail, and ``script`` is a script of the store. ``wire`` is one connection, ``greeting`` the
first words on it. ``link`` keeps a connection, and ``topology`` finds the store of each partition.

``keys`` are the names of the keys. ``scripts`` are the changes, in Lua. ``groups`` and ``steps``
are the arguments and replies of the two that run all day. ``record`` is a job as its keys hold it.

``node`` is this process among the nodes, and ``heartbeat`` its sign of life. A job in its hands is
a ``hand``, and all of them are ``hands``. An ``exchange`` takes the ends of attempts from its
``outbox`` to the store and brings jobs, and ``remarks`` are progress and text of attempts.
"""
