"""What the settings say of anchors, time stamps, receivers and alert rules, as ports.

S3 is reached as everywhere: the bucket's connection of s3_connections, else aws_conn_id. Where
Airflow is not loaded, a connection is its variable `AIRFLOW_CONN_…`; with an empty aws_conn_id
there is none, and boto3 looks for credentials itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_secure_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from airflow_secure_ml.core.alerts.rule import AlertRule
    from airflow_secure_ml.core.audit.relaying import AnchorStore, Stamper
    from airflow_secure_ml.core.audit.siem import Receiver
    from airflow_secure_ml.services.notifying import Notifier
    from airflow_secure_ml.settings import Settings


def anchor_store(settings: Settings) -> AnchorStore | None:
    """Where checkpoints are locked; None: nowhere. Nothing is connected before it is used.

    Raises:
        ConfigurationError: The address names another connection than the settings do.
    """
    if not settings.audit_anchor:
        return None
    # Imported here: boto3 is for who keeps something in AWS.
    from airflow_secure_ml.adapters.aws.s3 import S3Objects
    from airflow_secure_ml.adapters.aws.s3.anchors import S3Anchors
    from airflow_secure_ml.hooks.s3 import BucketConnections

    buckets = BucketConnections(settings.aws_conn_id, settings.s3_connections)
    objects = S3Objects(buckets.client, asked_of=buckets.asked, use_connection=buckets.use)
    return S3Anchors(
        objects.canonical(settings.audit_anchor), objects.place, days=settings.audit_anchor_days
    )


def stamper(settings: Settings) -> Stamper | None:
    """Who stamps the time; None: nobody.

    Raises:
        ConfigurationError: No certificates are named that its stamps have to lead to.
    """
    server = settings.audit_timestamp_url
    if server is None:
        return None
    if settings.audit_timestamp_ca is None:
        raise ConfigurationError(
            "[secure_ml] audit_timestamp_ca: expected the certificates that stamps of "
            f"{server.url} lead to, found none; no stamp would be believed"
        )
    from airflow_secure_ml.adapters.timestamps import AuthorityStamper
    from airflow_secure_ml.outgoing import HttpPoster

    return AuthorityStamper(
        HttpPoster(f"time stamps of {server.url}", server.url),
        server.url,
        ca=settings.audit_timestamp_ca,
        policy=server.policy,
    )


def siem_receivers(settings: Settings) -> list[Receiver]:
    """Who gets every event."""
    from airflow_secure_ml.adapters.siem import SyslogReceiver, WebhookReceiver

    ca = "" if settings.siem_ca is None else str(settings.siem_ca)
    found: list[Receiver] = []
    if settings.siem_url:
        form, token_path = settings.siem_format, settings.siem_token_path
        found.append(WebhookReceiver(settings.siem_url, form=form, ca=ca, token_path=token_path))
    if settings.siem_syslog is not None:
        found.append(SyslogReceiver(settings.siem_syslog, ca=ca))
    return found


def alert_rules(settings: Settings) -> tuple[AlertRule, ...]:
    """The alert rules in force.

    Raises:
        ConfigurationError: One cannot be read, or is not evaluated as it stands.
    """
    from airflow_secure_ml.adapters.alert_rules import read_rules

    return read_rules(settings.audit_rules_dir, settings.audit_rules_off)


def alert_notifier(settings: Settings) -> Notifier:
    """Who is told of alerts. Airflow is loaded.

    Raises:
        ConfigurationError: There is no such notifier.
    """
    from airflow_secure_ml.hooks.alert_notifier import AirflowNotifier

    return AirflowNotifier(settings.alert_notifier)
