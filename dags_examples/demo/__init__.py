"""The demo: a real Airflow over the examples, and a check of everything that came out.

Airflow does not parse this folder. What runs here uses the package as a user would.
"""
