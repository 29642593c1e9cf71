"""The pages, and the programs that write some of them.

- ``lifecycle``: the diagram in protocol.md.
- ``settings``: settings.md.
- ``reference``: reference.md.
- ``decisions``: adr/index.md.
- ``site``: all of these, and the site.
"""
