"""The engine on Valkey or Redis: many nodes, one store.

In reading order: ``address`` is the URL of the store. ``reply_error`` has the ways in that a call
can fail, and ``script`` is a script of the store. ``wire`` is one connection, ``greeting`` the
first words on it. ``link`` keeps a connection, and ``topology`` finds the store of each partition.
``keys`` are the names of the keys. ``scripts`` are the changes, in Lua, and their arguments and
replies. ``record`` is a job as its keys hold it.
"""
