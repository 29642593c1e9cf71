"""The engine on Valkey.

In reading order: ``keys`` are the names of the keys. A ``script`` is a change in Lua, and ``scripts``
are all of them. ``groups`` has the arguments and the reply of ``submit``, ``steps`` those of
``step``. ``record`` is a job as its keys hold it. ``changes`` has the arguments and replies of all
other scripts.
"""
