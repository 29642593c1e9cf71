"""The command line: ``headway`` and ``python -m headway``.

A command imports its own half of the program when it runs: a server needs no client, and ``--help``
needs neither. In reading order:

- ``main``: all commands, and the ends that they share: Ctrl-C, a closed pipe.
- ``settings``: the settings of a command that needs those of the server.
- ``node``: the process of a node, for serve and work.
- ``init``, ``serve``, ``work``, ``simulate``, ``journal``, ``engine``, ``token``: the server and its surroundings.
- ``times``: how long, since when, until when.
- ``exits``: the exit codes.
- ``server``: the server that a command asks: its address and its errors.
- ``tries``: the lines of a command whose requests get no useful answer yet.
- ``output``: lines for people, and JSON for programs.
- ``payload``: the argument PAYLOAD as content.
- ``each``: a command about several jobs.
- ``facts``: the facts about a job.
- ``jobs``: submit, status, wait, result.
- ``filters``: which jobs are meant.
- ``listing``, ``log``, ``events``: list, log, events.
- ``many``: orders about all jobs that fit a filter.
- ``changes``: cancel, retry, delete, change, run-now.
- ``hold``: the switches of a task: hold, close, resume.
- ``wait``, ``bar``, ``above``: waiting for jobs, and the display of that.
- ``tasks``: the tasks of the server.
- ``audit``: who changed what.
- ``top``, ``frame``: the server at work, live.
"""
