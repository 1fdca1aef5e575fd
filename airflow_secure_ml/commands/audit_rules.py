"""`audit rules`: the alert rules in force, or whether those of a directory are read here."""

from __future__ import annotations

import argparse
from pathlib import Path

from airflow_secure_ml.adapters.alert_rules import read_rules
from airflow_secure_ml.commands.running import Result
from airflow_secure_ml.commands.session import Session
from airflow_secure_ml.core.alerts.levels import LEVELS
from airflow_secure_ml.core.alerts.rule import AlertRule


def rules(arguments: argparse.Namespace, session: Session) -> Result:
    """List rules, the gravest first; a rule that is not evaluated is an error with its name."""
    settings = session.settings
    folder = settings.audit_rules_dir if arguments.dir is None else Path(arguments.dir)
    found = sorted(read_rules(folder, settings.audit_rules_off), key=_gravest)
    lines = [f"{rule.level:13} {rule.name:26} {rule.title}" for rule in found]
    if not found:
        lines = ["no rule is evaluated: audit_rules_off says so"]
    return Result(data={"rules": [_said(rule) for rule in found]}, lines=lines)


def _gravest(rule: AlertRule) -> tuple[int, str]:
    return (-LEVELS.index(rule.level), rule.name)


def _said(rule: AlertRule) -> dict[str, object]:
    return {
        "name": rule.name,
        "level": rule.level,
        "title": rule.title,
        "digest": rule.digest,
        "source": rule.source,
        "group_by": list(rule.group_by),
        "at_least": rule.at_least,
        "within_s": rule.timespan_ms // 1000,
    }
