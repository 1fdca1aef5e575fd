"""Attacks on a body that runs elsewhere, and what happens to it: retries, deferral."""

from __future__ import annotations

import pendulum
import pytest
from airflow.sdk import DAG, BaseOperator, task
from airflow.sdk.exceptions import TaskDeferred
from airflow.triggers.base import BaseTrigger

from airflow_secure_ml import Reads, Writes, secure
from airflow_secure_ml.core.policy_file import parse_rules
from airflow_secure_ml.core.statement import Statement
from airflow_secure_ml.deployment import deployment
from airflow_secure_ml.errors import FormatError, IntegrityError, PolicyError
from airflow_secure_ml.services.manifests import build_manifest
from airflow_secure_ml.services.signing import sign_artifact

DAY = "file:///lake/day"
MODEL = "file:///lake/model.bin"


@pytest.fixture
def run(secure_ml):
    """Run a job that is `function(address of the day, address of the model)`."""

    def call(function, *, sealed=True):
        def job(day=None, model=None):
            return function(day, model)

        with DAG("d", schedule=None, start_date=pendulum.datetime(2026, 1, 1)) as dag:
            secure(
                reads={"day": Reads("/lake/day", sealed=sealed)},
                writes={"model": Writes(MODEL, sealed=False)},
                remote=True,
            )(task(job))()
        return secure_ml.run(dag.task_dict["job"])

    return call


@pytest.fixture
def mixed(secure_ml):
    """A signed directory whose first file alone is sealed."""
    here = deployment()
    secure_ml.put("/lake/a.bin", b"sealed")
    here.objects.put(f"{DAY}/a.bin", here.objects.objects["file:///lake/a.bin"])
    here.objects.put(f"{DAY}/b.csv", b"name\np17\n")
    said = Statement(
        object=DAY, manifest=build_manifest(here.objects, DAY), act="write", signed_ms=1
    )
    sign_artifact(here.objects, said, here.keys.signer("pipeline"))


def put(address, data=b"trained"):
    deployment().objects.put(address, data)


def test_a_directory_is_sealed_only_if_all_of_it_is(mixed, run):
    ran = []

    done = run(lambda day, model: ran.append(put(model)))

    assert isinstance(done.error, FormatError)
    assert done.error.why == "not_sealed"
    assert ran == []


def test_one_sealed_file_gets_no_plain_ones_past_a_rule(mixed, run):
    here = deployment()
    text = b'version = "1"\n[[data]]\nprefix = "/lake/day"\nplain = "refuse"\n'
    here.__dict__["rules"] = parse_rules(text, canonical=here.canonical)
    ran = []

    def job(day, model):
        ran.append(day)

    done = run(job, sealed=False)

    assert isinstance(done.error, FormatError)
    assert "plain objects are refused" in str(done.error)
    assert done.error.why == "not_sealed"
    assert ran == []


def test_an_input_that_is_no_file_is_recorded_as_refused(secure_ml, run, monkeypatch):
    secure_ml.put("/lake/day", b"age")
    ran = []

    def refuse(uri):
        raise FormatError(f"{uri}: expected a file, found a FIFO")

    # The memory store has no other kinds of files.
    monkeypatch.setattr(deployment().objects, "open", refuse)
    done = run(lambda day, model: ran.append(day))

    assert isinstance(done.error, FormatError)
    assert ran == []
    assert [e.outcome for e in secure_ml.events if e.act == "object.verify"] == ["refused"]


class Waiting(BaseTrigger):
    def serialize(self):
        return "tests.securing.test_remote_attacks.Waiting", {}

    async def run(self):
        yield


class Elsewhere(BaseOperator):
    """A job that is begun, waited for without a worker, and ended."""

    template_fields = ("day", "model")

    def __init__(self, *, day, model, begun, **more):
        super().__init__(**more)
        self.day, self.model, self.begun = day, model, begun

    def execute(self, context):
        self.begun(self.day, self.model)
        self.defer(trigger=Waiting(), method_name="go_on", kwargs={"pod": "p1"})

    def go_on(self, context, pod, event=None):
        return pod


@pytest.fixture
def deferred(secure_ml):
    """Run a job to its deferral, let something happen, and resume it as a worker would."""

    def call(begun, meanwhile=lambda: None):
        with DAG("d", schedule=None, start_date=pendulum.datetime(2026, 1, 1)) as dag:
            made = secure(
                Elsewhere(
                    task_id="job",
                    day="{{ secure.day }}",
                    model="{{ secure.model }}",
                    begun=begun,
                ),
                reads={"day": Reads("/lake/day")},
                writes={"model": Writes(MODEL, sealed=False)},
                remote=True,
            )
        assert made is dag.task_dict["job"]
        with pytest.raises(TaskDeferred) as caught:
            secure_ml.run(made)
        meanwhile()
        kwargs = {**caught.value.kwargs, "event": None}
        type(made).execute = lambda self, context: self.resume_execution("go_on", kwargs, context)
        return secure_ml.run(made)

    return call


def test_a_job_that_was_deferred_is_signed_when_it_resumes(secure_ml, deferred):
    secure_ml.put("/lake/day", b"age")

    done = deferred(lambda day, model: put(model))

    assert done.error is None
    assert done.returned == "p1"
    assert done.writes["model"]["bytes"] == 7


def test_a_deferred_job_that_writes_nothing_over_an_older_output_is_refused(secure_ml, deferred):
    secure_ml.put("/lake/day", b"age")
    assert deferred(lambda day, model: put(model)).error is None

    done = deferred(lambda day, model: None)

    assert isinstance(done.error, PolicyError)
    assert done.error.why == "output_missing"


def test_an_input_that_is_replaced_while_a_job_is_deferred_is_refused(secure_ml, deferred):
    secure_ml.put("/lake/day", b"age")

    def meanwhile():
        # Signed as well: what counts is that it is another one.
        secure_ml.put("/lake/day", b"other")

    done = deferred(lambda day, model: put(model), meanwhile)

    assert isinstance(done.error, IntegrityError)
    assert "replaced while the job ran" in str(done.error)
