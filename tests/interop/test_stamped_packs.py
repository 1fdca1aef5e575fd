"""The one-file verifier and a pack's time stamp: checked by openssl, or said not to be."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from airflow_secure_ml.adapters.timestamps import AuthorityStamper
from airflow_secure_ml.core.audit.relaying import Stamped
from airflow_secure_ml.outgoing import HttpPoster
from airflow_secure_ml.services.evidence import Beside, Selection, write_pack
from tests.interop.authority import Authority, answering
from tests.interop.test_witnesses import grow, log, log_keys, signed, size_of  # noqa: F401 - a fixture
from tests.services.audit.conftest import site  # noqa: F401 - a fixture

VERIFY = Path(__file__).parents[2] / "airflow_secure_ml" / "verifier" / "verify.py"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tsa") / "good")


@pytest.fixture
def stamped_pack(authority, log, tmp_path):  # noqa: F811 - the fixture
    """An evidence pack with a stamp over an earlier checkpoint, and the keys to check it by."""
    note = log.reader().checkpoint()
    with answering(lambda query: (200, authority.reply(query))) as url:
        stamper = AuthorityStamper(HttpPoster("tsa", url), url, ca=authority.ca)
        response, time_ms = stamper.stamp(note.encode())
    stamped = Stamped(size=size_of(note), note=note, response=response, time_ms=time_ms)
    beside = Beside(note=grow(log), keys=log_keys(log), verifier=b"", stamp=stamped)
    with (tmp_path / "pack.zip").open("w+b") as stream:
        write_pack(log.reader(), Selection(), beside, stream)
    with zipfile.ZipFile(tmp_path / "pack.zip") as packed:
        packed.extractall(tmp_path / "pack")
    (tmp_path / "keys").write_text("".join(key.line() for key in log_keys(log)))
    return tmp_path / "pack"


def verified(pack, *options, **environment):
    """What the one-file verifier says of a pack."""
    command = [sys.executable, str(VERIFY), str(pack), "--keys", str(pack.parent / "keys")]
    done = subprocess.run(
        [*command, "--json", *map(str, options)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    return json.loads(done.stdout)


def test_the_verifier_checks_a_packs_stamp_by_openssl(stamped_pack, authority):
    report = verified(stamped_pack, "--timestamp-ca", authority.ca)

    assert (report["status"], report["problem"]) == (0, "")
    assert re.fullmatch(r"20[0-9-]{8}T[0-9:]{8}\+00:00, over [0-9]+ leaves", report["stamp"])


def test_the_verifier_says_plainly_that_it_did_not_check_a_stamp(stamped_pack):
    report = verified(stamped_pack)

    assert report["status"] == 0
    assert report["stamp"].startswith("NOT CHECKED")


def test_a_stamp_that_is_asked_for_and_cannot_be_checked_is_not_passed_over(
    stamped_pack, authority, tmp_path
):
    asked = ("--timestamp-ca", authority.ca)

    without_program = verified(stamped_pack, *asked, PATH=str(tmp_path / "nothing"))
    shutil.rmtree(stamped_pack / "timestamp")
    without_stamp = verified(stamped_pack, *asked)

    assert without_program["status"] == without_stamp["status"] == 5
    assert "no program openssl" in without_program["problem"]
    assert without_stamp["problem"] == "it holds no time stamp"


def _another_history(pack, trail):
    note = signed(trail, 2, b"\x07" * 32)
    (pack / "timestamp" / "note").write_text(note)


def _another_note(pack, trail):
    shutil.copy(pack / "checkpoint", pack / "timestamp" / "note")
    (pack / "timestamp" / "consistency").write_text("")


def _rubbish(pack, trail):
    (pack / "timestamp" / "response.tsr").write_bytes(b"rubbish")


def _edited(pack, trail):
    path = pack / "timestamp" / "response.tsr"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("attack", [_another_history, _another_note, _rubbish, _edited])
def test_the_verifier_believes_no_stamp_of_something_else(stamped_pack, authority, log, attack):  # noqa: F811 - fixture
    attack(stamped_pack, log)

    report = verified(stamped_pack, "--timestamp-ca", authority.ca)

    assert report["status"] == 1, report


def test_a_true_stamp_of_another_history_is_none_of_this_one(stamped_pack, authority, log):  # noqa: F811 - fixture
    other, folder = signed(log, 2, b"\x07" * 32), stamped_pack / "timestamp"
    with answering(lambda query: (200, authority.reply(query))) as url:
        stamper = AuthorityStamper(HttpPoster("tsa", url), url, ca=authority.ca)
        response, _ = stamper.stamp(other.encode())
    (folder / "note").write_text(other)
    (folder / "response.tsr").write_bytes(response)

    for options in (("--timestamp-ca", authority.ca), ()):
        assert verified(stamped_pack, *options)["status"] == 1


def test_the_verifier_believes_no_other_authoritys_stamp(stamped_pack, tmp_path):
    other = Authority(tmp_path / "other")

    report = verified(stamped_pack, "--timestamp-ca", other.ca)

    assert report["status"] == 1
    assert "the time stamp does not hold" in report["problem"]
