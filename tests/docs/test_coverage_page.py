"""docs/coverage.md names what a check says, as the code has it."""

from __future__ import annotations

import re
from pathlib import Path

from airflow_secure_ml.commands.audit_parsers import AUDIT_COMMANDS
from airflow_secure_ml.reconciling.program import TAKEN_S
from airflow_secure_ml.reconciling.rounds import OVERLAP_MS, SETTLE_MS
from airflow_secure_ml.services.agreement_alerts import ABOUT, MAX_NAMED
from airflow_secure_ml.services.coverage import BAD_ENDS, DIFFERENCES, VERDICTS
from airflow_secure_ml.services.key_usage_agreement import UNASKED, UNRECORDED

PAGE = (Path(__file__).parents[2] / "docs" / "coverage.md").read_text(encoding="utf-8")


def test_every_verdict_has_its_row():
    assert sorted(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == sorted(VERDICTS)


def test_every_alert_is_named():
    for about in (
        *(f"coverage.{kind}" for kind in DIFFERENCES),
        *(f"emitter.{e}" for e in BAD_ENDS),
    ):
        assert f"`{about}`" in PAGE


def test_the_times_are_those_of_the_code():
    assert (SETTLE_MS, OVERLAP_MS, TAKEN_S) == (15_000, 600_000, 90.0)
    assert "less than 15 seconds ago" in PAGE
    assert "ten minutes earlier" in PAGE
    assert "90 seconds at most" in PAGE


def test_the_commands_are_those_there_are():
    (command,) = [each for each in AUDIT_COMMANDS if each.name == "reconcile"]
    flags = {flag for argument in command.arguments for flag in argument.flags}

    used = re.findall(r"secure-ml audit reconcile(.*)", PAGE)

    assert len(used) >= 4
    assert {flag for line in used for flag in re.findall(r"--[a-z-]+", line)} <= flags


def test_what_it_says_of_vaults_log_is_so():
    (command,) = [each for each in AUDIT_COMMANDS if each.name == "compare-vault"]
    flags = {flag for argument in command.arguments for flag in argument.flags}
    used = re.findall(r"secure-ml audit compare-vault(.*)", PAGE)
    (section,) = re.findall(r"## Vault's own log, use by use\n(.*?)\n## ", PAGE, re.DOTALL)

    assert len(used) == 3
    assert {flag for line in used for flag in re.findall(r"--[a-z-]+", line)} <= flags
    assert set(re.findall(r"`(--[a-z-]+)`", section)) <= flags
    assert {f"`{ABOUT}{kind}`" in section for kind in (UNRECORDED, UNASKED)} == {True}
    assert MAX_NAMED == 1000
    assert "a thousand at most" in section
