"""Handing events over to an API server by HTTP, from the sender's end.

The guardian loads it too, so it needs nothing but the standard library.
"""
