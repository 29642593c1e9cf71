"""The server as a process of its system.

In reading order: ``listener`` is its socket, and ``acceptor`` takes clients from it. ``entry`` is
their way in: past ``proxy_header``, if a proxy names them, and ``tls``. ``loop`` is the event loop,
with ``timers``. ``signals`` end it or deploy. ``deploy`` executes the new program, and ``reload``
asks for that after each change. ``systemd`` gets its state. ``parts`` are those of a server with
gateways, which tell by a ``fingerprint`` whether they are of one program. ``logs`` are written as
``lines``.
"""
