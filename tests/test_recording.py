"""The one sink of a process, and what is told to it from below."""

from __future__ import annotations

import pytest

from airflow_secure_ml.deployment import use_deployment
from airflow_secure_ml.hooks.connection_warnings import ConnectionWarning, on_warning, warn
from airflow_secure_ml.recording import close_sink, sink_of_this_process
from airflow_secure_ml.settings import parse_settings
from airflow_secure_ml.testing.memory_deployment import MemoryDeployment


@pytest.fixture
def here():
    made = MemoryDeployment(
        parse_settings(
            {
                "audit_dir": "/nonexistent/audit",
                "audit_signer_dir": "/nonexistent/signer",
                "key_system": "local:///nonexistent/keyring.json",
            }
        )
    )
    # Whatever an earlier test of this process left open would be told instead.
    close_sink()
    on_warning(None)
    use_deployment(made)
    yield made
    close_sink()
    use_deployment(None)
    on_warning(None)


def warning(subject):
    return ConnectionWarning(about="plain http", subject=subject, because="allow_http is set")


def test_what_somebody_should_hear_of_vault_is_an_alert_in_the_trail(here):
    warn(warning("said-before"))
    sink_of_this_process(program="test")
    warn(warning("said-after"))
    warn(warning("said-after"))

    alerts = [fact for fact in here.audit.facts if fact.act == "alert.raise"]
    assert [alert.more["subject"] for alert in alerts] == ["said-before", "said-after"]
    assert alerts[0].more == {
        "about": "plain http",
        "subject": "said-before",
        "because": "allow_http is set",
    }
    assert here.audit.settled == len(here.audit.facts)
