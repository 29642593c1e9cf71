"""HTTP: bytes in, bytes out; no rules about jobs.

In reading order, which is the road of a request: ``server`` (serve, drain), with its ``check`` of settings, ``loop``,
``listener`` (its socket), ``signals``, ``handover`` (executing the program anew) and ``systemd``; ``acceptor``;
``turn`` (of the loop: all reads, all answers, all writes); ``polls`` (HEAD of a job, which is nearly all that comes);
``connection`` (one client: bytes to requests, deadlines); ``request`` (what the parser fills) and ``known`` (what
needs no parser); ``answering`` (requests to bytes: the order of answers, flow control); ``routes`` (method and path to
function), which lead to ``submissions`` (what is sent: ``bodies``), ``jobs``, ``batches`` and ``health``; ``heads``
(what HEAD says of a job), ``documents`` (what GET says), ``responses`` and ``problems`` (ready bytes). Beside the
road: ``service`` (what connections share), its ``budget`` and ``footprint`` in memory, ``limits`` on what one of the
``clients`` may ask, ``clock``, ``metrics``, and ``logs``, written as ``lines``.
"""
