"""docs/vault.md says what the connection's form and the client say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.vault.client import REFUSED_LOGIN_S
from airflow_secure_ml.adapters.vault.transport import MAX_ANSWER_BYTES
from airflow_secure_ml.get_provider_info import vault_fields
from airflow_secure_ml.hooks.connections import parse_connection
from airflow_secure_ml.hooks.vault_connection import VaultConnection
from airflow_secure_ml.hooks.vault_logins import LOGINS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "vault.md").read_text()


def row(name, field):
    default = field["schema"].get("default")
    shown = "" if default is None else f" Default: {str(default).lower()}."
    return f"| `{name}` | {field['label']} | {field['description']}{shown} |"


def test_its_table_has_every_field_of_the_form_in_order():
    section = PAGE.partition("## Fields")[2].partition("\n## ")[0]

    rows = [line for line in section.splitlines() if line.startswith("| `")]

    assert rows == [row(name, field) for name, field in vault_fields().items()]


@pytest.mark.parametrize("method", LOGINS)
def test_every_way_to_log_in_is_explained(method):
    section = PAGE.partition("## Ways to log in")[2].partition("\n## ")[0]
    headings = re.findall(r"^\*\*(.+?)\.\*\*", section, flags=re.MULTILINE)

    assert method in [word.strip() for heading in headings for word in heading.split(",")]


def test_its_examples_are_connections():
    text = PAGE.partition("AIRFLOW_CONN_VAULT_DEFAULT='")[2].partition("'\n")[0]
    (uri,) = re.findall(r"`(vault-secure-ml://\S+)`", PAGE)

    for example, kind in ((text, "AppRoleLogin"), (uri, "KubernetesLogin")):
        connection = VaultConnection(parse_connection("vault_default", example))
        assert connection.server().url == "https://vault.example.org:8200"
        assert type(connection.login()).__name__ == kind
    assert json.loads(text)["conn_type"] == "vault_secure_ml"


def test_its_figures_are_those_of_the_client():
    assert f"for {REFUSED_LOGIN_S:.0f} s nobody" in PAGE
    assert f"more than {MAX_ANSWER_BYTES >> 20} MiB" in PAGE
