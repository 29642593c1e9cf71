"""What is on disk, when there is a journal: SQLite, one writer.

In reading order: ``journal``, what happened to every job; ``delivery``, what is not committed yet, whatever becomes of
the writer; ``writer_link``, the writer seen from the loop; ``messages``, what the two tell each other; ``writer``, the
process that commits; ``database``, the file that it writes to; ``statement``, how many changes become one; ``room``,
which is taken before it is needed; ``expiry``, what retention has given up; ``schema``, what the file looks like and
when it is refused; ``clock``, by which it is dated; ``watermark``, how a loss is noticed; ``startup``, what a start
finds; ``attempts``, how often each job was begun; ``reader``, reading it; and for people ``report`` and ``salvage``.
"""
