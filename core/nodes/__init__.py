"""Nodes: the processes that run the jobs of one store.

In reading order: ``node`` is this process among the nodes, ``heartbeat`` its sign of life, and
``reaper`` takes the jobs of those that are dead. A job in the hands of this node is a ``hand``, all
of them are ``hands``, and a ``crew`` is the source of the jobs of one pool of workers. An
``exchange`` takes the ``ends`` of attempts from its ``outbox`` to the store and brings jobs, and
``remarks`` are progress and text of attempts. ``fences`` has the ends that were dropped, and
``membership`` registers the node, again if it has to.
"""
