"""The engine on Valkey or Redis: many nodes, one store.

In reading order: ``engine`` is the facade, and ``parts`` all behind it that needs the store.
``cache`` has the facts of jobs that were read, ``snapshot`` the queue as a whole, ``hints`` when to
ask again, ``statuses`` a job as clients see it, ``details`` what is kept of it besides, and
``batches`` a batch. ``catalogue`` has the tasks of all nodes. ``node_chores`` are what a node does
each second. ``intake`` checks submissions, ``submissions`` takes them to the store, and ``acts``
changes jobs that are there. Of all nodes are ``shared_audit``, ``shared_counting``,
``shared_events``, ``shared_finding``, ``shared_history``, ``shared_holds`` and ``shared_orders``.
"""
