"""The collector's socket, from both ends: what sends to it, and what takes and stamps.

Senders load `line` alone, the guardian among them, so nothing is imported here.
"""
