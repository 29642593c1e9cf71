"""The facts on disk, when there is a journal: SQLite, one writer.

In reading order: ``journal`` has everything that happened to every job. ``delivery`` keeps the
changes that are not committed yet, even if the writer dies. ``writer_link`` is the writer seen from
the loop, ``messages`` the messages between the two, and ``writer`` the process that commits. It
writes to a ``database``: ``statement`` makes one out of many changes, ``notes`` are the rare facts
beside them, ``room`` is taken before it is needed, and ``expiry`` deletes the rows that retention
has given up. ``schema`` has the tables, and the reasons to refuse a file. ``clock`` dates it, and
``watermark`` notices a loss. ``startup`` is the journal as a start finds it, and ``attempts`` counts
how often each job was begun. ``reader`` reads the journal. For people there are ``report``,
``backup`` and ``salvage``. ``departure`` and ``arrival`` move a journal to another engine, and back.
"""
