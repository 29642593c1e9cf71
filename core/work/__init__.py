"""Work: the attempts at jobs, from start to outcome.

In reading order: ``jobs`` is the engine as workers see it. ``workers`` begins and interrupts
attempts. ``attempt`` runs one, on the loop, in one of the ``threads`` or in a process. ``outcome``
is how it ended, and ``verdict`` is what follows. ``reports`` come from attempts in any thread.
``watchdog`` names the task that blocks the event loop.
"""
