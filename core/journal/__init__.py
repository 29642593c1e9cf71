"""What is on disk, when there is a journal: SQLite, one writer.

In reading order: ``journal``, what happened to every job; ``delivery``, what is not committed yet, whatever becomes of
the writer; ``link``, the writer seen from the loop; ``talk``, what the two tell each other; ``writer``, the process
that commits; ``file``, what it writes to; ``batch``, how many changes become one statement; ``room``, which is taken
before it is needed; ``expiry``, what retention has given up; ``schema``, what the file looks like and when it is
refused; ``clock``, by which it is dated; ``mark``, how a loss is noticed; ``found``, what a start finds; ``attempts``,
how often each job was begun; ``replay``, reading it; and for people ``report`` and ``recovery``.
"""
