"""HTTP: bytes in, bytes out; no rules about jobs.

In reading order, which is the road of a request: ``server`` (serve, drain), with ``listener`` (its socket),
``signals``, ``handover`` (executing the program anew) and ``systemd``; ``acceptor``; ``connection`` (one client: bytes
to requests, deadlines); ``request`` (what the parser fills) and ``known`` (what needs no parser); ``answering``
(requests to bytes: the order of answers, flow control); ``routes`` (method and path to function), which lead to
``submissions`` (what is sent: ``bodies``), ``jobs``, ``batches`` and ``health``; ``responses`` and ``problems`` (status
lines and headers as ready bytes); ``documents`` (what GET says). Beside the road: ``service`` (what connections share),
``limits`` on what one of the ``clients`` may ask, ``clock``, ``metrics`` and ``logs``.
"""
