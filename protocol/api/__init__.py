"""The routes, and what the answers say.

In reading order: ``app`` is what HTTP serves; ``service`` is what all routes share; ``routes`` lead from method and
path to a function in ``submissions`` (what is sent: ``bodies``), ``jobs``, ``batches`` and ``health``; ``headers`` are
what HEAD says of a job, ``documents`` what GET says; ``polls`` is HEAD of a job again, which is nearly all that comes;
``metrics``.
"""
