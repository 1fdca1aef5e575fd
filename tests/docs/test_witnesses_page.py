"""docs/witnesses.md shows settings that are read, and commands that are there."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path

from airflow_secure_ml.adapters.witness import read_witness_key
from airflow_secure_ml.cli import main
from airflow_secure_ml.settings import parse_settings

PAGE = (Path(__file__).parents[2] / "docs" / "witnesses.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)


def test_its_settings_are_read():
    parser = configparser.ConfigParser()
    parser.read_string(next(block for block in BLOCKS if block.startswith("[secure_ml]")))

    settings = parse_settings(dict(parser["secure_ml"]))

    assert [witness.key.name for witness in settings.audit_witnesses] == ["witness.example/w1"]
    assert settings.audit_witness_quorum == 1


def test_the_settings_of_anchors_and_time_stamps_are_read():
    blocks = [block for block in BLOCKS if block.startswith("[secure_ml]")][1:]
    found = {}
    for block in blocks:
        parser = configparser.ConfigParser()
        parser.read_string(block)
        found |= dict(parser["secure_ml"])

    settings = parse_settings(found)

    assert (settings.audit_anchor, settings.audit_anchor_days) == ("s3://anchors/trail", 365)
    assert settings.audit_timestamp_url.url == "https://tsa.example/tsr"
    assert settings.audit_timestamp_url.policy == "1.2.3.4.1"
    assert str(settings.audit_timestamp_ca) == "/etc/airflow/tsa_ca.pem"


def test_its_first_command_makes_a_witness(tmp_path, capsys):
    words = shlex.split(next(block for block in BLOCKS if "--init" in block))
    folder = tmp_path / "witness"

    status = main([str(folder) if word == "/var/lib/witness" else word for word in words[1:]])

    assert status == 0
    key = read_witness_key(folder)
    assert capsys.readouterr().out.splitlines()[0] == key.public.vkey()
    assert (folder / "witness.key").stat().st_mode & 0o777 == 0o600
