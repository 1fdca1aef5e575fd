"""Rendered fields: shown as Airflow shows them, until the try has opened a sealed value."""

from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import pytest

from airflow_secure_ml.xcom import lookups
from airflow_secure_ml.xcom.rendered import HIDDEN

CANARY = "canary-3f77"


class Written:
    """A task as its author wrote it, and as it was rendered."""

    template_fields = ("command", "env", "nothing")
    template_fields_renderers: ClassVar = {"env.deep": "json"}

    def __init__(self, dag, **fields):
        self.task_id, self._dag = "train", dag
        for name in self.template_fields:
            setattr(self, name, fields.get(name))

    def get_dag(self):
        return self._dag


@pytest.fixture
def collect(bench, monkeypatch):
    """Collect the fields of a try that did or did not open a value."""
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.context import set_current_context

    def collected(written, rendered, *, opens, ti="one"):
        monkeypatch.setattr(lookups, "_openers", set())
        instance = SimpleNamespace(
            dag_id="d", run_id="r", task_id="train", map_index=-1, try_number=1, id=ti
        )
        bench.put(CANARY)
        with set_current_context({"ti": instance}):
            if opens:
                bench.get()
            dag = SimpleNamespace(task_dict={} if written is None else {"train": written})
            return task_runner._serialize_rendered_fields(Written(dag, **rendered))

    return collected


WRITTEN = Written(None, command="cat {{ ti.xcom_pull() }}", env={"deep": "fixed"})
RENDERED = {"command": f"cat {CANARY}", "env": {"deep": "fixed"}}


def test_nothing_is_hidden_from_who_opened_nothing(collect):
    found = collect(WRITTEN, {"command": "cat x", "env": {"deep": "fixed"}}, opens=False)

    assert found == {
        "command": "cat x",
        "env": {"deep": "fixed"},
        "nothing": None,
        "env.deep": "fixed",
    }


def test_what_rendering_changed_is_hidden_once_a_value_was_opened(collect):
    found = collect(WRITTEN, RENDERED, opens=True)

    assert (found["command"], found["env"], found["nothing"]) == (HIDDEN, {"deep": "fixed"}, None)
    assert CANARY not in str(found)


def test_a_mapped_task_shows_what_was_the_same_for_all(collect):
    mapped = SimpleNamespace(partial_kwargs={"env": {"deep": "fixed"}})

    found = collect(mapped, {"command": CANARY, "env": {"deep": "fixed"}}, opens=True)

    assert (found["command"], found["env"]) == (HIDDEN, {"deep": "fixed"})


def test_all_is_hidden_where_the_author_s_task_is_not_found(collect):
    found = collect(None, {"command": CANARY, "env": {"deep": CANARY}}, opens=True)

    assert found == {"command": HIDDEN, "env": HIDDEN, "nothing": None, "env.deep": HIDDEN}


def test_a_longer_value_is_not_shown_cut(collect):
    found = collect(WRITTEN, {"command": CANARY * 1000}, opens=True)

    assert found["command"] == HIDDEN


@pytest.mark.parametrize("name", ["_serialize_rendered_fields", "_serialize_template_field"])
def test_an_airflow_that_collects_otherwise_opens_nothing(bench, monkeypatch, name):
    from airflow.sdk.execution_time import task_runner

    from airflow_secure_ml.errors import ConfigurationError

    bench.put(CANARY)
    monkeypatch.delattr(task_runner, name)

    with pytest.raises(ConfigurationError, match="stored there in clear"):
        bench.get()


class Nested:
    """A value that Airflow renders in place, as it does a Kubernetes pod's variables."""

    template_fields = ("value",)

    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return f"Nested({self.value})"


@pytest.mark.parametrize(
    "wrap", [lambda one: one, lambda one: [{"deep": (one,)}]], ids=["one", "deep"]
)
@pytest.mark.parametrize("is_mapped", [False, True], ids=["unmapped", "mapped"])
def test_what_is_rendered_in_place_is_hidden(bench, monkeypatch, wrap, is_mapped):
    from airflow.sdk import DAG, BaseOperator
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.context import set_current_context

    class Templated(BaseOperator):
        template_fields = ("variables", "fixed")

        def __init__(self, *, variables=None, fixed=None, **kwargs):
            super().__init__(**kwargs)
            self.variables, self.fixed = variables, fixed

    monkeypatch.setattr(lookups, "_openers", set())
    bench.put(CANARY)
    variables = wrap(Nested("{{ pulled() }}"))
    with DAG("d"):
        if is_mapped:
            made = Templated.partial(task_id="train", variables=variables, fixed="same")
            task = made.expand_kwargs([{}]).unmap({})
        else:
            task = Templated(task_id="train", variables=variables, fixed="same")
    instance = SimpleNamespace(
        dag_id="d", run_id="r", task_id="train", map_index=-1, try_number=1, id="one"
    )
    with set_current_context({"ti": instance}):
        task = task.prepare_for_execution()
        task.render_template_fields({"pulled": bench.get, "ti": instance, "task": task})
        found = task_runner._serialize_rendered_fields(task)

    assert CANARY in repr(task.variables)
    assert found == {"variables": HIDDEN, "fixed": "same"}
