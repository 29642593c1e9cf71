"""Links: how a server of Valkey or Redis is reached, without a word of jobs.

In reading order: ``address`` is the URL of the store. ``reply_error`` has the ways in which a call
can fail, and ``script`` is a script of the store. ``wire`` is one connection, ``dial`` makes it, and
``greeting`` has the first words on it. ``kept_wire`` makes it again when it is lost, ``ear`` hears
messages by it, and ``link`` has the ``calls`` of one server. ``sentinel`` knows the primary of a
name, ``slots`` are those of a cluster, ``cluster`` has a link to each of its primaries, and
``topology`` chooses among these.
"""
