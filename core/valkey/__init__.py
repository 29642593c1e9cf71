"""The engine on Valkey or Redis: many nodes, one store.

In reading order: ``address`` is the URL of the store. ``reply_error`` has the ways in which a call
can fail, and ``script`` is a script of the store. ``wire`` is one connection, ``dial`` makes it, and
``greeting`` has the first words on it. ``kept_wire`` makes it again when it is lost, ``ear`` hears
messages by it, and ``link`` has the ``calls`` of one server. ``sentinel`` knows the primary of a
name, ``slots`` are those of a cluster, ``cluster`` has a link to each of its primaries, and
``topology`` chooses among these.

``keys`` are the names of the keys, and ``scripts`` all changes of them, in Lua. ``groups`` has the
arguments and the reply of ``submit``, ``steps`` those of ``step``. ``record`` is a job as its keys
hold it. ``changes`` has the arguments and the replies of all other scripts.

``node`` is this process among the nodes, and ``heartbeat`` its sign of life. A job in its hands is
a ``hand``, all of them are ``hands``, and a ``crew`` has those of one pool of workers. The ``ends`` of
attempts wait in an ``outbox``, and an ``exchange`` takes them to the store and brings jobs.
``remarks`` are progress and text of attempts. The ``reaper`` takes jobs from dead nodes.

``engine`` is the facade. ``store`` has the ids and the layout of the keys. ``cache`` has the facts
of jobs, ``snapshot`` the queue as a whole, ``hints`` when to ask again, ``statuses`` a job as
clients see it, ``details`` all else that is kept of it, and ``batches`` a batch. ``catalogue`` has
the tasks of all nodes. ``intake`` checks submissions, and ``submissions`` takes them to the store.
``acts`` ends jobs and changes those that wait.

``shared_events`` tells events of all nodes, ``shared_holds`` are the switches of tasks,
``shared_finding`` finds jobs by a filter, ``shared_orders`` are about many jobs at once, and
``shared_history`` counts what was.

``layout`` is the agreement of all nodes. For people there are ``visit``, by which a store is asked,
``report`` and ``checking``. ``departure`` and ``arrival`` move a store to another engine, and back.
"""
