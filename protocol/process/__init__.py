"""The server as a process of its system.

In reading order: ``listener`` is its socket and ``acceptor`` takes clients from it; ``loop`` is the event loop;
``signals`` end it or have it deployed; ``deploy`` executes the program anew; ``systemd`` is told how it is; ``logs``
are written as ``lines``.
"""
