"""The command line: ``headway`` and ``python -m headway``.

A command imports its own half of the program when it runs: a server needs no client, and ``--help``
needs neither. In reading order:

- ``main``: all commands, and the ends that they share: Ctrl-C, a closed pipe.
- ``settings``: the settings of a command that needs those of the server.
- ``init``, ``serve``, ``simulate``, ``journal``: the server and its surroundings.
- ``server``: the server that a command asks: its address, its errors, the exit codes.
- ``tries``: the lines of a command whose requests get no useful answer yet.
- ``output``: lines for people, and JSON for programs.
- ``payload``: the argument PAYLOAD as content.
- ``jobs``: submit, status, wait, result, cancel, retry, list.
- ``wait``, ``bar``: waiting for jobs, and the display of that.
- ``tasks``: the tasks of the server.
- ``top``, ``frame``: the server at work, live.
"""
