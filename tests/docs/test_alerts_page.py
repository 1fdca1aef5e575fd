"""docs/alerts.md: its rule is evaluated, its options and figures are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from airflow_secure_ml.adapters.alert_rules import read_rules, shipped_rules
from airflow_secure_ml.core.alerts import counting
from airflow_secure_ml.core.alerts.detection import FLAGS, NUMERIC, TEXTUAL
from airflow_secure_ml.core.alerts.reading import MAX_COUNT
from airflow_secure_ml.core.alerts.taxonomy import DERIVED
from airflow_secure_ml.services.alerting import FIRST_LEAVES

PAGE = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text(encoding="utf-8")


def test_its_rule_is_read_as_it_stands(tmp_path):
    (found,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "mine.yml").write_text(found)

    (rule,) = [rule for rule in read_rules(tmp_path, ()) if rule.name == "many_of_the_clinic"]

    assert (rule.at_least, rule.field, rule.group_by) == (20, "object.uri", ("run.dag",))


def test_the_rules_that_it_names_are_there():
    names = {rule.name for rule in shipped_rules()}
    (off,) = re.findall(r"audit_rules_off = (\w+, \w+)`", PAGE)
    listed = re.findall(r"^(?:critical|high) +(\w+)", PAGE, re.MULTILINE)

    assert {*off.split(", "), *listed} <= names


def test_what_it_says_is_evaluated_is():
    said = PAGE.partition("**Evaluated**")[2].partition("**Refused by name**")[0]
    words = set(re.findall(r"`(\w+)`", said))

    assert NUMERIC.keys() | TEXTUAL | FLAGS <= words
    assert str(MAX_COUNT) in said


def test_its_figures_are_those_of_the_code():
    assert (
        f"{counting.MAX_GROUPS} groups a rule, the newest {counting.NAMES_AN_ALERT} events" in PAGE
    )
    assert f"{FIRST_LEAVES:,} events at most" in PAGE
    assert counting.QUIET_MS == 3_600_000


def test_every_derived_field_is_explained():
    table = PAGE.partition("Four are worked out")[2]

    assert set(re.findall(r"`(derived\.\w+)`", table)) == set(DERIVED)
