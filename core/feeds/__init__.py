"""Events for those who read them. Each engine records here what it sees change.

``feeds`` keeps the last events, and wakes their readers in rounds.
"""
