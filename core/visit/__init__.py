"""Visits: a store as people look at it, check it, and move jobs to it or from it.

In reading order: ``visit`` is the way in, beside the nodes. ``departure`` is a store as values,
``arrival`` puts such values into an empty one, ``checking`` finds what does not fit together, and
``report`` is what people are shown.
"""
