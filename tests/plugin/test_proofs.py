"""The page's downloads that prove one event: each is what tools outside read."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_secure_ml.core.audit.tlog_proof import parse_tlog_proof
from airflow_secure_ml.plugin import access, routes_event
from airflow_secure_ml.plugin.access import Scope
from airflow_secure_ml.services.proving import check_leaf_proof

ADA = Scope(user="ada", dags=None)


@pytest.fixture
def download(trail, monkeypatch):
    """Asks for a proof, as the page's form does; `download.told` is what was recorded."""
    told = []
    monkeypatch.setattr(routes_event, "check_form", lambda *form: None)
    monkeypatch.setattr(access.conf, "get_mandatory_value", lambda *names: "secret")
    monkeypatch.setattr(type(trail), "record", lambda self, fact: told.append(fact))

    def ask(leaf, **form):
        name = f"{leaf.event['emitter']}:{leaf.event['seq']}"
        return routes_event.proof(SimpleNamespace(), ADA, trail, name=name, token="", **form)

    ask.told = told
    return ask


def test_a_proof_is_downloaded_as_c2sp_tools_read_it(trail, download):
    leaf = trail.store.leaf(40)

    answer = download(leaf, form="tlog-proof")

    proof = parse_tlog_proof(answer.body.decode())
    assert (proof.index, proof.extra) == (40, leaf.data)
    assert check_leaf_proof(proof, trail.log_keys()).size == trail.store.size()
    assert answer.headers["content-disposition"] == 'attachment; filename="proof-40.tlog-proof"'


@pytest.mark.parametrize(
    ("form", "said"), [({}, "proof"), ({"form": "tlog-proof"}, "tlog-proof")], ids=["json", "c2sp"]
)
def test_that_a_proof_is_given_out_is_recorded(trail, download, form, said):
    download(trail.store.leaf(40), **form)

    (fact,) = download.told
    assert (fact.act, fact.more["format"], fact.more["events"]) == ("trail.export", said, 1)
