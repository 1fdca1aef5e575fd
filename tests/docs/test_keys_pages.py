"""The pages about keys in KMS and in tokens: their options are taken, their policies parse."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.aws import kms_client, kms_keys, kms_rotation
from airflow_secure_ml.key_systems import NamedKeys
from airflow_secure_ml.settings import parse_settings

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ["keys-in-aws-kms.md", "keys-in-hsm.md"]


def blocks(page, language):
    text = (DOCS / page).read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def nobody(name):
    raise AssertionError(f"asked for {name}")


@pytest.mark.parametrize("page", PAGES)
def test_the_options_of_a_page_lead_to_its_key_system(page):
    (block,) = blocks(page, "ini")
    read = configparser.ConfigParser(interpolation=None)
    read.read_string(block)

    settings = parse_settings(dict(read["secure_ml"]))
    keys = NamedKeys(
        settings.key_system,
        settings.key_names,
        connect_aws=nobody,
        find_token=lambda label: None,
    )

    assert {keys.ref(name, 1).system for name in ("data", *settings.key_names)} == {
        "awskms" if "kms" in page else "pkcs11"
    }


def test_each_statement_of_a_policy_gives_what_the_table_says():
    (block,) = blocks(PAGES[0], "json")
    actions = [statement["Action"] for statement in json.loads(block)]

    assert actions == ["kms:DescribeKey", "kms:Decrypt"]


def test_what_is_asked_of_kms_stands_in_the_table():
    page = (DOCS / PAGES[0]).read_text()
    sources = [Path(module.__file__) for module in (kms_keys, kms_client, kms_rotation)]
    sources += [path for path in sources[0].parent.glob("kms_*.py") if path not in sources]
    asked = {
        name
        for source in sources
        for name in re.findall(r'"((?:[A-Z][a-z]+){2,}|Encrypt|Decrypt|Sign)",', source.read_text())
        if name.startswith(("Create", "Update", "Disable", "Describe", "Get", "List", "Sign"))
        or name in ("Encrypt", "Decrypt")
    }

    missing = [name for name in asked if f"`kms:{name}`" not in page]

    assert "CreateKey" in asked
    assert "Decrypt" in asked
    assert missing == []
