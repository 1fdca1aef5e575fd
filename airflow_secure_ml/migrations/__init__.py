"""The tables that this package keeps in PostgreSQL, made by Alembic, step by step.

A revision that was released is never changed, and none is ever undone: a log is not dropped.
"""
