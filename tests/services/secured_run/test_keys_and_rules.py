"""Keys out of use, signers and rules: no body runs without the right ones."""

from __future__ import annotations

import pytest

from airflow_secure_ml.adapters.local_keyring import LocalKeyring
from airflow_secure_ml.services.run_plan import Input, Output


def refused(bench, plan, name="x.csv", *, act="object.verify", why, **how):
    item = Input(name="table", uri=bench.uri(name), **how)
    error, said = bench.refusal(plan(inputs=[item], task_id="read"))
    assert said == [(act, why), ("task.secure", why)]
    assert error.why == why
    return str(error)


def test_a_signer_who_is_not_accepted_is_refused(bench, plan):
    bench.keyring.create("release", "sign")
    bench.put("x.csv")

    refused(bench, plan, why="signer_not_accepted", signed_by=("release",))


def test_a_signer_whom_nobody_knows_is_refused(bench, plan):
    bench.put("x.csv")

    refused(bench, plan, why="key_missing", signed_by=("nobody",))


def test_the_rule_says_whose_signature_counts(bench, plan):
    bench.keyring.create("release", "sign")
    bench.put("x.csv")
    bench.allow(f'[[data]]\nprefix = "{bench.data}"\nsigners = ["release"]\n')

    refused(bench, plan, why="signer_not_accepted")


def test_a_rule_that_denies_reading_is_recorded_with_the_decision(bench, plan):
    bench.put("x.csv")
    bench.allow(f'[[data]]\nprefix = "{bench.data}"\nreaders = ["billing*"]\n')
    item = Input(name="table", uri=bench.uri("x.csv"))

    error, said = bench.refusal(plan(inputs=[item]))

    assert said == [
        ("rule.decide", "rule_denied"),
        ("object.verify", "rule_denied"),
        ("task.secure", "rule_denied"),
    ]
    assert "DAG churn" in str(error)


def test_a_rule_that_refuses_plain_data_is_obeyed(bench, plan):
    bench.path("x.csv").write_text("age\n41\n")
    bench.allow(f'[[data]]\nprefix = "{bench.data}"\nplain = "refuse"\n')
    item = Input(name="table", uri=bench.uri("x.csv"), sealed=False)

    _, said = bench.refusal(plan(inputs=[item]))

    assert {why for _, why in said} == {"not_sealed"}
    assert [act for act, _ in said] == ["rule.decide", "object.verify", "task.secure"]


def test_a_rule_that_denies_a_key_for_writing_is_obeyed(bench, plan):
    bench.keyring.create("other", "wrap")
    bench.allow(f'[[data]]\nprefix = "{bench.data}"\nkey = "data"\n')
    output = Output(name="out", uri=bench.uri("x.csv"), key="other")

    _, said = bench.refusal(plan(outputs=[output]))

    assert said == [("rule.decide", "key_not_allowed"), ("task.secure", "key_not_allowed")]


def test_an_address_that_no_rule_covers_is_refused_where_that_is_the_default(bench, plan):
    bench.allow('default = "refuse"\n')
    output = Output(name="out", uri=bench.uri("x.csv"))

    _, said = bench.refusal(plan(outputs=[output]))

    assert said == [("rule.decide", "rule_denied"), ("task.secure", "rule_denied")]


@pytest.mark.parametrize("state", ["disabled", "destroyed"])
@pytest.mark.parametrize("key", ["data", "pipeline"], ids=["wrap key", "sign key"])
def test_a_key_that_is_out_of_use_opens_nothing(bench, plan, key, state):
    bench.put("x.csv")
    {"disabled": bench.keyring.disable, "destroyed": bench.keyring.destroy}[state](key)
    item = Input(name="table", uri=bench.uri("x.csv"))

    _, said = bench.refusal(plan(inputs=[item]))

    act = "object.open" if key == "data" else "object.verify"
    assert said == [(act, f"key_{state}"), ("task.secure", f"key_{state}")]


@pytest.mark.parametrize("state", ["missing", "disabled", "destroyed"])
@pytest.mark.parametrize("key", ["data", "pipeline"], ids=["wrap key", "sign key"])
def test_a_key_that_is_out_of_use_seals_nothing_and_no_body_runs(bench, plan, key, state):
    if state == "missing":
        option = {"data": "data_key", "pipeline": "signing_key"}[key]
        bench.configure(**{option: "nowhere"})
    else:
        {"disabled": bench.keyring.disable, "destroyed": bench.keyring.destroy}[state](key)

    _, said = bench.refusal(plan(outputs=[Output(name="out", uri=bench.uri("x.csv"))]))

    assert said == [("object.seal", f"key_{state}"), ("task.secure", f"key_{state}")]


def test_a_key_that_a_rule_does_not_name_opens_nothing_there(bench, plan):
    bench.keyring.create("other", "wrap")
    bench.put("x.csv", output={"key": "other"})
    bench.allow(f'[[data]]\nprefix = "{bench.data}"\nkey = "data"\n')

    refused(bench, plan, act="object.open", why="key_not_allowed")


@pytest.mark.parametrize(
    ("key", "whys"),
    [("other", {"key_missing"}), ("data", {"digest_differs", "key_missing"})],
    ids=["missing", "same name, other bytes"],
)
def test_a_key_that_this_keyring_never_had_opens_nothing(bench, plan, tmp_path, key, whys):
    bench.keyring.create("other", "wrap")
    bench.put("x.csv", output={"key": key})
    elsewhere = LocalKeyring(tmp_path / "elsewhere" / "keyring.json")
    elsewhere.init([("data", "wrap")])
    elsewhere.trust("pipeline", bench.keyring.export_public("pipeline"))
    bench.configure(key_system=f"local://{elsewhere.path}")
    item = Input(name="table", uri=bench.uri("x.csv"))

    error, said = bench.refusal(plan(inputs=[item]))

    assert [act for act, _ in said] == ["object.open", "task.secure"]
    assert {why for _, why in said} <= whys
    assert f"{key}/1" in str(error)


def test_a_sign_key_does_not_seal_and_a_wrap_key_does_not_sign(bench, plan):
    bench.configure(data_key="pipeline")

    _, said = bench.refusal(plan(outputs=[Output(name="out", uri=bench.uri("x.csv"))]))

    assert [act for act, _ in said] == ["object.seal", "task.secure"]


def test_a_keyring_that_is_not_there_says_how_to_make_one(bench, plan):
    bench.keyring.path.unlink()

    error, said = bench.refusal(plan(outputs=[Output(name="out", uri=bench.uri("x.csv"))]))

    assert "keys init" in str(error)
    assert said == [("object.seal", "misconfigured"), ("task.secure", "misconfigured")]
