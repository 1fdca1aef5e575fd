"""Receivers of events: what each is sent, and what counts as its confirmation.

Which leaves are sent, and when again, is `services.forwarding`'s business.
"""

from airflow_secure_ml.adapters.siem.syslog import SyslogReceiver
from airflow_secure_ml.adapters.siem.webhook import WebhookReceiver

__all__ = ["SyslogReceiver", "WebhookReceiver"]
