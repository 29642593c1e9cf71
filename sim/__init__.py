"""A crowd of clients: speaks HTTP only, imports nothing from core.

In reading order: ``command`` (the command line); ``settings`` (what is asked for, and what is allowed) and ``files``
(how many connections are allowed); ``crowd`` (from the first client to the last) and ``run`` (what they share);
``client`` (jobs created, polled until over, and again); ``policies`` (when to poll); ``requests``, ``link`` and
``answers`` (bytes out, a connection, bytes in); ``wheel`` (one timer for all); ``figures`` and ``histogram`` (what is
counted); ``trace`` (each answer); ``view`` and ``report`` (how it is shown).
"""
