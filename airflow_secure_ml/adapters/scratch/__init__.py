"""Opened data in memory, in private directories that are gone when their task is.

One adapter in three parts: `making` for the task, `room` for where, `shredding` for whoever ends
it. `shredding` loads fast: the guardian's start is part of every task's.
"""
