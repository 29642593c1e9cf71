"""Work: who runs jobs, and how it went.

In reading order: ``workers`` begins and interrupts attempts; ``attempt`` runs one, on the loop, in one of the
``threads`` or in a process; ``outcome`` is how it ended. ``watchdog`` names the task that holds the event loop.
"""
