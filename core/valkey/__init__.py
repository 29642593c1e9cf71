"""The engine on Valkey or Redis: many nodes, one store.

In reading order: ``address`` is the URL of the store. ``reply_error`` has the ways in which a call
can fail, and ``script`` is a script of the store. ``wire`` is one connection, ``dial`` makes it, and
``greeting`` has the first words on it. ``kept_wire`` makes it again when it is lost, ``ear`` hears
messages by it, and ``link`` has the ``calls`` of one server. ``sentinel`` knows the primary of a
name, ``slots`` are those of a cluster, ``cluster`` has a link to each of its primaries, and
``topology`` chooses among these.

``keys`` are the names of the keys. ``scripts`` are the changes, in Lua: ``groups`` and ``steps``
have their arguments and replies. ``record`` is a job as its keys hold it. ``shared_events`` are
those of all nodes.
"""
