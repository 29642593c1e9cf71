"""HTTP: bytes in, bytes out, and the server as a process. No rules about jobs.

The packages, each of which imports only packages above it:

- ``http``: bytes to requests and answers to bytes; it knows no job;
- ``process``: the server as a process of its system: socket, signals, deploy, logs;
- ``access``: who asks, and how much a client may ask for;
- ``api``: the routes, and what the answers say.

``server`` puts them together: serve, drain, deploy. ``check`` looks at the settings before that, and ``footprint`` sums
what memory the settings allow.
"""
