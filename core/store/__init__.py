"""The store: the keys that hold the jobs of all nodes, and the scripts that change them.

In reading order: ``keys`` are the names of the keys, and ``layout`` is what all nodes agree on.
``scripts`` are all changes, in Lua. ``groups`` has the arguments and the reply of ``submit``,
``steps`` those of ``step``, and ``changes`` those of all others. ``record`` is a job as its keys
hold it. ``store`` is all of it as a node reaches it, with the ids.
"""
