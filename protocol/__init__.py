"""HTTP: bytes in, bytes out; no rules about jobs.

In reading order, which is the road of a request: ``server`` (listen, signals, drain) and ``acceptor``; ``connection``
(one client: keep-alive, pipelining, flow control, deadlines); ``request`` (what the parser fills)
and ``known`` (what needs no parser); ``routes`` (method
and path to function); ``responses`` and ``problems`` (status lines and headers as ready bytes); ``documents`` (what GET
says). Beside the road: ``service`` (what connections share), ``clock``, ``metrics`` and
``logs``.
"""
