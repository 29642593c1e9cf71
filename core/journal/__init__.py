"""What is on disk, when there is a journal: SQLite, one writer.

In reading order: ``journal``, what happened to every job; ``file``, where it is written to; ``batch``, how many changes
become one statement; ``schema``, what the file looks like and when it is refused; ``mark``, how a loss is noticed;
``attempts``, how often each job was begun; ``replay``, reading it; and for people ``report`` and ``recovery``.
"""
