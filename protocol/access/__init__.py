"""Limits on clients: ``clients`` finds the client of a request, ``limits`` counts its requests."""
