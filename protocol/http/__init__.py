"""Bytes to requests, answers to bytes. It knows no job.

The reading order is the road of a request: ``round`` (of the loop: all reads, all answers, all
writes), ``connection`` (one client: bytes to requests, deadlines), ``request`` (filled by the
parser), ``grammar`` (the forms of what stands in a head), ``malformed`` (bytes that are no
request), ``caller`` (who sends it) and ``repeated`` (a head that needs no parser), ``outbox`` (the
order of answers, flow control), ``stream`` (an answer without an end), ``responses`` and
``problems`` (ready bytes). Beside the road are ``app`` (the application as HTTP sees it),
``connections`` (their shared state), ``budget`` (memory taken by clients), ``queued`` (bytes in the
kernel) and ``clock``.
"""
