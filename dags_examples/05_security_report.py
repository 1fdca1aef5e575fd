"""The security report: what was refused, opened, sealed and signed last month, for people to read.

Each figure in it leads to the events that make it. The files are signed, so that whoever gets one
can tell that this task wrote it; the page alone is deterministic, so that it can be made again and
compared. That a report left the audit log is an event of the log itself.
"""

from __future__ import annotations

import os

import pendulum
from airflow.sdk import dag

from airflow_secure_ml.operators import SecurityReportOperator

REPORTS = os.environ.get("SECURE_ML_DEMO_REPORTS", "/opt/airflow/reports")
PERIOD = os.environ.get("SECURE_ML_DEMO_REPORT_PERIOD", "month")


@dag(
    schedule="@monthly",
    start_date=pendulum.datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    tags=["audit"],
)
def security_report():
    name = f"{REPORTS}/{{{{ dag_run.run_after | ds }}}}"
    SecurityReportOperator(
        task_id="write", period=PERIOD, html=f"{name}/report.html", pdf=f"{name}/report.pdf"
    )


security_report()
