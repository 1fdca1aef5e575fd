"""Sigma files as somebody may write them, by mistake or to harm."""

from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.alert_rules import read_rules, shipped_rules
from airflow_secure_ml.errors import ConfigurationError

RULE = """\
title: Mine
name: {name}
date: 2026-11-28
logsource:
    product: airflow_secure_ml
detection:
    s:
        act: key.create
    condition: s
level: {level}
"""


def put(folder, name="mine", level="low", text=None, file=None):
    (folder / (file or f"{name}.yml")).write_text(text or RULE.format(name=name, level=level))


def test_own_rules_stand_beside_those_that_came(tmp_path):
    put(tmp_path)
    (tmp_path / "notes.txt").write_text("not: a rule")

    names = [rule.name for rule in read_rules(tmp_path, ())]

    assert "mine" in names
    assert len(names) == len(shipped_rules()) + 1


def test_an_own_rule_takes_the_place_of_one_of_its_name(tmp_path):
    put(tmp_path, "key_destroyed", "critical")

    (found,) = [rule for rule in read_rules(tmp_path, ()) if rule.name == "key_destroyed"]

    assert (found.title, found.level) == ("Mine", "critical")


def test_rules_may_be_off(tmp_path):
    names = {rule.name for rule in read_rules(None, ("key_destroyed",))}

    assert "key_destroyed" not in names
    assert len(names) == len(shipped_rules()) - 1
    assert read_rules(None, ("all",)) == ()


def test_a_rule_that_is_off_has_to_be_there():
    with pytest.raises(ConfigurationError, match="there is no rule 'key_destoryed'"):
        read_rules(None, ("key_destoryed",))


def test_two_files_of_one_rule_are_refused(tmp_path):
    put(tmp_path)
    put(tmp_path, file="other.yml")

    with pytest.raises(ConfigurationError, match="also the name of"):
        read_rules(tmp_path, ())


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1]\nb: *a\n",
        "a: &a {b: 1}\nc:\n    <<: *a\n",
        "!!python/object/apply:os.system ['true']\n",
        "title: a\ntitle: b\n",
        "? [a, b]\n: c\n",
        "- a\n- b\n",
        "just a text\n",
        "a: [\n",
        "\x00\n",
        "[" * 5000,
    ],
    ids=[
        "alias", "merge", "object", "twice", "list-as-name", "list", "text", "open", "nul", "deep",
    ],
)  # fmt: skip
def test_what_is_no_rule_is_refused_by_its_file(tmp_path, text):
    put(tmp_path, text=text)

    with pytest.raises(ConfigurationError, match=r"mine\.yml"):
        read_rules(tmp_path, ())


def test_a_file_of_any_size_is_not_read(tmp_path):
    put(tmp_path, text="# " + "x" * 70_000)

    with pytest.raises(ConfigurationError, match="over 65,536 bytes"):
        read_rules(tmp_path, ())


def test_a_directory_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ConfigurationError, match="audit_rules_dir"):
        read_rules(tmp_path / "nowhere", ())
