"""When a client is to ask again.

In reading order: ``runs`` learns run times, ``generation`` what can be known from the first jobs before any is over;
``estimate`` says when a job ends; ``pace`` gives every poll a moment at which there is room for it.
"""
