"""When a client has to ask again.

In reading order: ``runs`` learns run times, ``generation`` learns from the first jobs before all
are finished, ``estimate`` predicts the end of a job, ``pace`` gives every poll a moment at which
there is room for it, and ``promises`` answers for a job on the board.
``statuses`` are made of its row and that answer.
"""
