"""`secure()`: what a DAG author types, and how a task is wrapped and run.

Nothing here seals, signs or validates: it finds out what a task declared, hands it to
`services.secured_run`, and gives the body its paths.
"""
