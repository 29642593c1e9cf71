"""Who may ask, and how much.

``clients`` finds the client of a request, ``limits`` counts its requests. ``origins`` names the pages
of other sites that browsers let in, and ``sites`` refuses changes that all other pages ask for.
"""
