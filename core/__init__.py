"""The engine: no sockets, no HTTP. It imports nothing of ours outside this folder.

The words, which stand in this folder, in reading order: ``config`` with ``faults``, the members of it that are wrong,
and ``errors``; ``task``, ``job`` with its life-cycle, and ``status``, all that can be said of a job; ``ids``;
``stats``; ``records``, what is logged. Three say how code runs: ``slices`` splits work that is too long for one turn
of the loop, ``apart`` does it in a thread, and ``forks`` has what a forked child must not get.

The packages, each of which imports only packages above it:

- ``tasks``: what a user declares, and the values that go in and come out;
- ``processes``: Pythons of our own beside the server;
- ``board``: a row for every job, and what is found by a job's number;
- ``queue``: the jobs that wait;
- ``retry_after``: when a client is to ask again;
- ``work``: who runs jobs, and how it went;
- ``journal``: what is on disk;
- ``local``: the engine in one process, which all of them make.

``interface`` is what every engine can do, and all that the protocol sees of one. ``open`` opens the engine that the
settings ask for.
"""
