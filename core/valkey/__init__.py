"""The engine on Valkey.

In reading order: ``keys`` are the names of the keys. ``scripts`` are the changes, in Lua, and their
arguments and replies. ``record`` is a job as its keys hold it.
"""
