"""What is on disk, when there is a journal: SQLite, one writer.

In reading order: ``journal``, what happened to every job; ``link``, the writer seen from the loop; ``talk``, what the
two tell each other; ``writer``, the process that commits; ``file``, what it writes to; ``batch``, how many changes
become one statement; ``schema``, what the file looks like and when it is refused; ``clock``, by which it is dated;
``mark``, how a loss is noticed; ``found``, what a start finds; ``attempts``, how often each job was begun; ``replay``,
reading it; and for people ``report`` and ``recovery``.
"""
