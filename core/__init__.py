"""The engine: no HTTP, and no sockets but those of ``gateway``. It imports nothing of ours outside this folder.

The modules of this folder are the words. In reading order: ``config`` has the settings,
``config_sources`` reads them, ``faults`` finds wrong members, and ``errors`` has every error.
``misfits`` finds the wrong places in a JSON value, for ``payload_type``, the type of a task's
payload. ``body`` is a payload that is no JSON. ``task`` and its switches, ``hold``, ``job`` with
its life-cycle, ``past_attempt``, ``retention``, ``job_filter``, ``job_log`` with its ``log_text``,
``order``, ``durability``, ``status`` and ``events`` describe jobs, and a ``key`` names one for its
client. ``acceptance`` has rules of letting jobs in. ``audit`` has the changes that clients made.
``moved`` is all of an engine as lines, and ``shown`` the contents as people are shown them. Then
come ``history``, ``ids``, ``load``, ``stats``, and what was ``counted`` of clients. ``wall`` has
the time of day, and ``records`` makes the text of log records. Four are about running code:
``running`` tells that of jobs from that of the server, ``slices`` splits work that is too long for
one turn of the loop, ``apart`` does it in a thread, and ``forks`` keeps our things from forked
children. ``files`` reads those that settings name, and ``memfile`` makes one without a name.

The packages, each of which imports only packages above it:

- ``tasks``: declared tasks, and the values that go in and come out
- ``processes``: Pythons of our own beside the server
- ``board``: a row for every job, and all facts found by a job's number
- ``queue``: the jobs that wait
- ``retry_after``: when a client asks again
- ``work``: attempts, from start to outcome
- ``journal``: the facts on disk
- ``feeds``: events, and those who read them
- ``local``: the engine in one process, made of all of these
- ``gateway``: an engine in another process
- ``link``: how a server of Valkey or Redis is reached
- ``store``: the keys that hold the jobs of all nodes, and the scripts that change them
- ``nodes``: the processes that run these jobs
- ``visit``: people who look at a store, check it, and move jobs to it or from it
- ``valkey``: the engine of many nodes, made of these. It imports neither ``journal`` nor ``local``

``interface`` has the calls of every engine. The protocol sees nothing else of one. ``later`` has the
values that engines wait for, ``waiters`` the clients that wait for jobs, and ``batch_wait`` the wait
for the end of a batch. ``handover`` is what a process leaves to the next one. ``open`` opens the
engine that the settings ask for, and ``recovering`` stands in for it meanwhile.
"""
