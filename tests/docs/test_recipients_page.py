"""docs/recipients.md: its commands are taken, and its options lead to keys."""

from __future__ import annotations

import argparse
import configparser
import re
import shlex
from pathlib import Path

import pytest

from airflow_secure_ml import cli
from airflow_secure_ml.adapters.local_keyring import LocalKeyring
from airflow_secure_ml.key_systems import NamedKeys
from airflow_secure_ml.services.key_choice import sealing_keys
from airflow_secure_ml.settings import parse_settings

PAGE = (Path(__file__).parents[2] / "docs" / "recipients.md").read_text()
COMMANDS = re.findall(r"^\$ secure-ml (.+?)(?: > \S+)?$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_of_the_page_is_one(command):
    parser = argparse.ArgumentParser()
    cli._add(parser, cli.COMMANDS)

    assert "." in parser.parse_args(shlex.split(command)).command_path


def test_the_page_has_commands():
    assert len(COMMANDS) >= 10


def test_the_options_of_the_page_lead_to_a_group_of_keys(tmp_path):
    read = configparser.ConfigParser(interpolation=None, strict=False)
    read.read_string("".join(re.findall(r"```ini\n(.*?)```", PAGE, re.DOTALL)))
    settings = parse_settings(dict(read["secure_ml"]))
    keyring = LocalKeyring(tmp_path / "k.json")
    keyring.init()

    keys = NamedKeys(f"local://{keyring.path}", settings.key_names, groups=settings.key_groups)

    assert [key.slot_type for key in sealing_keys(keys, ["partners"])] == [1, 2]
    assert settings.keyring_passphrase_path == Path("/run/secrets/secure_ml_passphrase")
