"""Each attack on the list is caught, by the package and by the file that outsiders run, alike."""

from __future__ import annotations

import pytest

from airflow_secure_ml.services.verifying import verify_log
from tests.attacks.trail.must_be_caught import ATTACKS
from tests.verifier.conftest import outsider  # noqa: F401 - a fixture


@pytest.fixture
def played(signed, request):
    """The attack's (site, keys, kept, last)."""
    beside = ATTACKS[request.param].play(signed) or {}
    keys = beside.get("keys", [signed.signer.public])
    return ATTACKS[request.param], signed, keys, beside.get("kept"), beside.get("last")


def files_for(site, keys, kept, last):
    (site.path / "keys").write_text("".join(key.line() for key in keys))
    options = ["--keys", site.path / "keys"]
    for flag, text in (("--checkpoint", kept), ("--last", last)):
        if text is not None:
            (site.path / flag[2:]).write_text(text)
            options += [flag, site.path / flag[2:]]
    return options


@pytest.mark.parametrize("played", ATTACKS, indirect=True)
def test_it_is_caught_by_both_alike(played, outsider):  # noqa: F811
    attack, site, keys, kept, last = played

    with site.reader().whole() as log:
        ours = verify_log(log, keys, kept=kept, signed_last=last)
    theirs = outsider.report(site.database, *files_for(site, keys, kept, last))

    assert (ours.status, ours.first_bad) == (attack.status, attack.first_bad), ours.problem
    words = attack.reason if isinstance(attack.reason, tuple) else (attack.reason,) * 2
    assert words[0] in ours.problem
    for name in (
        *("status", "first_bad", "origin", "size", "checked", "root", "checkpoints"),
        *("signed_size", "kept_size", "ends"),
    ):
        assert theirs[name] == getattr(ours, name), (name, theirs["problem"], ours.problem)
    assert words[1] in theirs["problem"]
    # The index of what is wrong, or why it is.
    assert ours.status in (0, 5) or ours.first_bad is not None or all(words)
    if attack.ends is not None:
        assert ours.ends == attack.ends
