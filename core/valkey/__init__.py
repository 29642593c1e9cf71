"""The engine on Valkey or Redis: many nodes, one store.

In reading order: ``address`` is the URL of the store. ``reply_error`` has the ways in which a call
can fail, and ``script`` is a script of the store. ``wire`` is one connection, ``greeting`` the
first words on it. ``link`` keeps a connection, and ``topology`` finds the store of each partition.
``keys`` are the names of the keys. ``scripts`` are the changes, in Lua: ``groups`` and ``steps``
have their arguments and replies. ``record`` is a job as its keys hold it. ``shared_events`` are
those of all nodes.
"""
