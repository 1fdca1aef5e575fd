"""The page about who signs the trail: its options are taken, its bytes are those of the vectors."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

from airflow_secure_ml.core.audit.log_key import ML_DSA_65, parse_log_keys
from airflow_secure_ml.settings import parse_settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "audit-keys.md").read_text("utf-8")
NOTE = ROOT / "tests" / "vectors" / "v1" / "log_note"


@pytest.mark.parametrize("block", re.findall(r"```ini\n(.*?)```", PAGE, re.DOTALL), ids=["1", "2"])
def test_the_options_of_the_page_are_taken(block):
    read = configparser.ConfigParser(interpolation=None)
    read.read_string(block)

    settings = parse_settings(dict(read["secure_ml"]))

    assert settings.audit_signer_socket == Path("/run/trail-signer/signer.sock")


def test_the_page_s_type_is_that_of_the_vectors():
    [written] = re.findall(r"^type +((?:[0-9a-f]{2} )+)", PAGE, re.MULTILINE)

    _, second = parse_log_keys((NOTE / "log_keys.txt").read_text("utf-8"))

    assert bytes.fromhex(written) == second.algorithm == ML_DSA_65


def test_the_sizes_that_the_page_tells_are_those_of_the_vectors():
    note = (NOTE / "note.txt").read_bytes()
    _, second = parse_log_keys((NOTE / "log_keys.txt").read_text("utf-8"))

    assert f"{len(note) / 1000:.1f} kB" in PAGE
    assert f"{len(second.public_key)} bytes" in PAGE
