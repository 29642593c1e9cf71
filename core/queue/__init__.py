"""The queue: the jobs that wait.

In reading order: ``ring`` is first in, first out. ``ready`` is a line of ready jobs, by priority
and under limits. ``outlook`` tells which jobs come before which. ``schedule`` has the delayed jobs,
by time. ``queue`` is all of them.
"""
