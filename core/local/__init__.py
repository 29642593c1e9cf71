"""The engine in one process.

In reading order: ``engine`` is the facade; ``admission`` lets jobs in; ``active`` decides each change of a job that is
not over; ``reading`` says what is known of a job, and ``waiters`` waits for its end. With a journal ``durable`` takes
the place of ``active``, ``uncommitted`` is what the disk does not have yet, and ``restore`` reads what it has;
``recovering`` stands in for the engine meanwhile. ``deploy`` hands all that is known to the next process.
"""
