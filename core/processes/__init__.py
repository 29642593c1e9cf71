"""Processes: Pythons of our own beside the server.

In reading order: ``spawn`` starts a new Python that runs a module of ours, ``frames`` is the form
of all data in a pipe, and ``messages`` has the messages between a worker process and the server.
``process`` is one worker process seen from the server. ``outputs`` has all that it writes, with an
``output_pipe`` for each pipe of it, and ``stray`` for the output that is of no job. ``ends`` hands it
pipes while it runs. ``child`` is the program that runs in it, with ``confinement`` for its user and
its limits, ``threads`` to tell those of the job that runs, ``output`` for all that a job prints, and
``sender`` for its way to answer. ``pool`` keeps all of them, ``trial`` starts one to see whether it
can be, and ``orphans`` reaps the programs that they leave.
"""
