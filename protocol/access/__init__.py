"""Who asks, and how much: ``clients`` finds out who a client is, ``limits`` counts what it asks for."""
