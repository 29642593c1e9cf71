"""Bytes to requests, answers to bytes. It knows no job.

In reading order, which is the road of a request: ``round`` (of the loop: all reads, all answers, all writes);
``connection`` (one client: bytes to requests, deadlines); ``request`` (what the parser fills) and ``repeated`` (a head
that needs no parser); ``outbox`` (the order of answers, flow control); ``responses`` and ``problems`` (ready bytes).
Beside the road: ``app`` (what is served, as HTTP sees it), ``connections`` (what all of them share), ``budget``
(memory that clients make us hold) and ``clock``.
"""
