"""A crowd of clients: speaks HTTP only, imports nothing from core.

In reading order: ``command`` (the command line), ``settings`` (a run's settings and their ranges)
and ``files`` (how many connections are allowed), ``crowd`` (from the first client to the last) and
``run`` (their shared state), ``client`` (creates jobs, polls until they have finished, starts
over), ``policies`` (when to poll), ``requests``, ``link`` and ``answers`` (bytes out, a connection,
bytes in), ``wheel`` (one timer for all), ``figures`` and ``durations`` (the counts), ``trace``
(each answer), ``view`` and ``report`` (the display).
"""
