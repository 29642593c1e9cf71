"""Clients: speaks HTTP only, imports nothing from core."""
