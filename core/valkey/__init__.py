"""The engine on Valkey or Redis: many nodes, one store.

In reading order: ``address`` is the URL of the store. ``reply_error`` has the ways in which a call
can fail, and ``script`` is a script of the store. ``wire`` is one connection, ``greeting`` the
first words on it. ``link`` keeps a connection, and ``topology`` finds the store of each partition.

``keys`` are the names of the keys, and ``scripts`` all changes of them, in Lua. ``groups`` has the
arguments and the reply of ``submit``, ``steps`` those of ``step``. ``record`` is a job as its keys
hold it. ``changes`` has the arguments and the replies of all other scripts. ``shared_events`` are
those of all nodes.

``layout`` is what all nodes agree on. For people there are ``visit``, by which a store is asked,
``report`` and ``checking``. ``departure`` and ``arrival`` move a store to another engine, and back.
"""
