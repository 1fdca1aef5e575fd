"""Attacks of somebody who may write XCom values and asset events, through REST or otherwise."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_secure_ml.deployment import use_deployment
from airflow_secure_ml.errors import ConfigurationError, PolicyError, SecureMLError
from airflow_secure_ml.recording import use_sink
from airflow_secure_ml.securing.addresses import make_plan, resolve
from airflow_secure_ml.securing.binding import PINNED, bound_fields
from airflow_secure_ml.securing.declaration import declare
from airflow_secure_ml.securing.execution import Ours
from airflow_secure_ml.securing.opening import open_artifact
from airflow_secure_ml.services.run_plan import Plan

GOOD = {"secure_ml": 1, "uri": "file:///lake/x", "digest": "sha256:" + "a" * 64}
TI = SimpleNamespace(dag_id="churn", task_id="train", run_id="r1", map_index=-1)


class Asset:
    name = "table"


def context(event=None):
    events = [] if event is None else [event]

    class Found(list):
        def ascending(self, _):
            return self

        def limit(self, _):
            return self

    return {
        "ti": TI,
        "dag": SimpleNamespace(fileloc="/dags/x.py"),
        "inlet_events": {asset: Found(events)},
    }


asset = Asset()


@pytest.fixture
def here(bench):
    """The deployment of this process."""
    use_deployment(bench)
    use_sink(bench.sink())
    yield bench
    use_sink(None)
    use_deployment(None)


@pytest.mark.parametrize(
    "digest", ["sha256:\0", "sha256:" + "A" * 64, "\ud800", "x" * 100_000, "sha256:" + "a" * 63]
)
def test_a_digest_that_is_none_never_reaches_an_event(digest):
    with pytest.raises(SecureMLError) as caught:
        resolve("table", {**GOOD, "digest": digest}, context())

    assert caught.value.why == "digest_differs"
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("source", [(None, None), ("churn", None), ("", "r1")])
def test_an_event_that_no_run_made_pins_nothing(source):
    event = SimpleNamespace(
        extra={"secure_ml": GOOD}, source_dag_id=source[0], source_run_id=source[1]
    )

    with pytest.raises(PolicyError) as caught:
        resolve("table", asset, context(event))

    assert caught.value.why == "signer_not_accepted"


def test_a_bare_address_does_not_stand_in_for_a_reference():
    declaration = declare(["table"], (), {}, False)

    def body(table):
        return table

    operator = SimpleNamespace(
        python_callable=body, op_args=(), op_kwargs={"table": "file:///lake/x"}
    )
    setattr(operator, PINNED, frozenset({"table"}))

    with pytest.raises(SecureMLError) as caught:
        make_plan(declaration, operator, context(), str)

    assert caught.value.why == "digest_differs"


def test_text_that_looks_like_a_marker_stays_text():
    operator = SimpleNamespace(template_fields=("command",), command="echo \u27e6secure.key\u27e7")

    with bound_fields(operator, {}):
        seen = operator.command

    assert seen == "echo \u27e6secure.key\u27e7"


@pytest.mark.parametrize("states", [{}, {"r1": {}}, {"r1": {"train": None}}])
def test_a_try_that_airflow_does_not_know_publishes_nothing(states):
    ti = SimpleNamespace(
        dag_id="churn",
        task_id="train",
        run_id="r1",
        map_index=-1,
        get_task_states=lambda **_: states,
    )

    with pytest.raises(PolicyError) as caught:
        Ours(ti)()

    assert caught.value.why == "try_replaced"


@pytest.mark.parametrize(
    "given", [{"secure_ml": 1}, {"secure_ml": 2}, {**GOOD, "digest": 7}, {**GOOD, "uri": None}]
)
def test_open_artifact_takes_no_half_reference(given, here):
    with pytest.raises(SecureMLError), open_artifact(given):
        raise AssertionError("it was opened")


def test_a_list_of_no_signers_is_not_the_trusted_ones(here):
    here.put("table.csv")

    with (
        pytest.raises(ConfigurationError, match="signed_by is empty"),
        open_artifact(here.uri("table.csv"), signed_by=[]),
    ):
        raise AssertionError("it was opened")


def test_what_breaks_while_planning_is_recorded(bench):
    """An exception of another kind than ours, from a value that nobody expected."""

    def broken():
        raise KeyError("uri")

    sink = bench.sink()
    run = bench.secured_run(
        broken,
        reads=["table"],
        writes=[],
        operator="Test",
        sink=sink,
        run=None,
        still_ours=lambda: None,
        tell=lambda line: None,
    )

    with pytest.raises(KeyError), run:
        run.open()

    assert ("task.secure", "outcome", "failed", "bug") in bench.acts(sink.emitter)


def test_many_names_hide_no_refusal(bench):
    def refused() -> Plan:
        raise ConfigurationError("refused")

    sink = bench.sink()
    run = bench.secured_run(
        refused,
        reads=[f"{'n' * 59}{number:05}" for number in range(1000)],
        writes=[],
        operator="Test",
        sink=sink,
        run=None,
        still_ours=lambda: None,
        tell=lambda line: None,
    )

    with pytest.raises(ConfigurationError, match=r"^refused$"), run:
        run.open()

    assert ("task.secure", "outcome", "refused", "misconfigured") in bench.acts(sink.emitter)
