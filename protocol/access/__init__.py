"""Who may ask, and how much.

``scopes`` are what a token may allow. ``tokens`` reads those of clients, and ``token_file`` changes
their file. ``guard`` looks whether a request may do what it asks for, and ``hosts`` whether it
names this server. ``clients`` finds the client of a request, ``limits`` counts its requests, and
``shared_rate`` those at all gateways. ``origins`` names the pages of other sites that browsers let
in, and ``sites`` refuses changes that all other pages ask for.
"""
