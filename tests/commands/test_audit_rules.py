"""`secure-ml audit rules`: what is looked for, and what a rule of one's own is refused for."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from airflow_secure_ml.adapters.alert_rules import shipped_rules

RULE = """\
title: Mine
name: mine
logsource:
    product: airflow_secure_ml
detection:
    s:
        {line}
    condition: s
"""


def run(tmp_path, *words, **options):
    names = {f"AIRFLOW__SECURE_ML__{name.upper()}": str(value) for name, value in options.items()}
    return subprocess.run(
        [sys.executable, "-I", "-m", "airflow_secure_ml.cli", "audit", "rules", *words],
        env={"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(tmp_path)} | names,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_rules_in_force_are_listed_the_gravest_first(tmp_path):
    done = run(tmp_path, "--json", audit_rules_off="key_destroyed")

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["rules"]
    assert found[0]["name"] == "log_changed"
    assert {rule["name"] for rule in found} == {
        rule.name for rule in shipped_rules() if rule.name != "key_destroyed"
    }


def test_a_directory_is_checked(tmp_path):
    (tmp_path / "mine.yml").write_text(RULE.format(line="act: key.create"))

    done = run(tmp_path, "--dir", str(tmp_path))

    assert done.returncode == 0, done.stderr
    assert any(line.split()[:3] == ["medium", "mine", "Mine"] for line in done.stdout.splitlines())


def test_a_rule_that_is_not_evaluated_is_an_error_that_names_it(tmp_path):
    (tmp_path / "mine.yml").write_text(RULE.format(line="object.uri|re: .*"))

    done = run(tmp_path, audit_rules_dir=tmp_path)

    assert done.returncode == 2
    assert "mine.yml: object.uri|re: modifier 're' is not evaluated here" in done.stderr


def test_that_no_rule_is_evaluated_is_said(tmp_path):
    done = run(tmp_path, audit_rules_off="all")

    assert done.stdout == "no rule is evaluated: audit_rules_off says so\n"
