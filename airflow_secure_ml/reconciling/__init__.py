"""The reconciler: Airflow's own tables against the trail, period by period.

The one place that reads Airflow's database. In here: what reads those tables, what reads the trail
for it, and the rounds of a process of its own; every decision is a service's.
"""
