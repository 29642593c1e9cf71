"""HTTP: bytes in, bytes out, and the server as a process. No rules about jobs.

The packages, each of which imports only packages above it:

- ``http``: bytes to requests and answers to bytes. It knows no job.
- ``process``: the server as a process of its system: socket, signals, deploy, logs.
- ``access``: the client of a request, and how much it may ask for.
- ``api``: the routes and their answers.

``server`` begins and ends the process of a node. ``node`` is its work: run jobs, drain, deploy.
``front`` is the side of a node that clients see. With gateways, ``supervisor`` starts the parts of
a server: a ``gateway`` has that side, and the engine has ``engine_front`` in its place. ``check``
looks at the settings before that, and ``footprint`` sums the memory that they allow.
"""
