"""A body that runs elsewhere: what it reads is verified, what it wrote is signed."""

from __future__ import annotations

import pendulum
import pytest
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, BaseOperator, task

from airflow_secure_ml import Reads, Writes, secure
from airflow_secure_ml.deployment import deployment
from airflow_secure_ml.errors import FormatError, IntegrityError, PolicyError, SignatureError
from airflow_secure_ml.services.signing import Demand, verify_artifact

TABLE, MODEL = "/lake/table.csv", "/lake/model.bin"
PLAIN = Writes(MODEL, sealed=False)


@pytest.fixture
def lake(secure_ml):
    secure_ml.put(TABLE, b"age\n54\n")
    return deployment().objects


@pytest.fixture
def run(secure_ml):
    """Run a job that is `function(address of the table, address of the model)`."""

    def call(function, *, reads=None, writes=None):
        reads = {"table": TABLE} if reads is None else reads
        writes = {"model": PLAIN} if writes is None else writes

        def job(table=None, model=None):
            return function(table, model)

        with DAG("d", schedule=None, start_date=pendulum.datetime(2026, 1, 1)) as dag:
            secure(reads=reads, writes=writes, remote=True)(task(job))()
        return secure_ml.run(dag.task_dict["job"])

    return call


def put(address, data=b"trained"):
    deployment().objects.put(address, data)


def acts(secure_ml, act):
    return [(e.phase, e.outcome, e.why) for e in secure_ml.events if e.act == act]


def test_the_job_gets_addresses_and_its_output_is_signed(secure_ml, lake, run):
    seen = []

    def job(table, model):
        seen.append((table, model))
        put(model)

    done = run(job)

    assert done.error is None
    assert seen == [("file:///lake/table.csv", "file:///lake/model.bin")]
    reference = done.writes["model"]
    demand = Demand(
        verifiers=secure_ml.keys.verifiers({"pipeline"}),
        digest=reference["digest"],
        produced_by=("d", "manual__2026-01-01T00:00:00+00:00"),
    )
    verified = verify_artifact(lake, "file:///lake/model.bin", Demand(verifiers=demand.verifiers))
    assert verified.digest == reference["digest"]
    assert verified.statement.act == "write"
    assert verified.statement.producer.task_id == "job"
    assert acts(secure_ml, "object.verify") == [("outcome", "ok", None)]
    assert acts(secure_ml, "object.open") == []
    assert acts(secure_ml, "object.publish") == [("intent", None, None), ("outcome", "ok", None)]


def test_a_bound_address_stands_in_an_operators_field(secure_ml, lake):
    seen = []

    class SparkSubmitOperator(BaseOperator):
        """Known by its name, whoever ships it."""

        template_fields = ("application_args",)

        def __init__(self, *, application_args, **kwargs):
            super().__init__(**kwargs)
            self.application_args = application_args

        def execute(self, context):
            seen.extend(self.application_args)
            put("file:///lake/model.bin")

    with DAG("d", schedule=None, start_date=pendulum.datetime(2026, 1, 1)) as dag:
        secure(
            SparkSubmitOperator(
                task_id="spark", application_args=["{{ secure.table }}", "--to={{ secure.model }}"]
            ),
            reads={"table": TABLE},
            writes={"model": PLAIN},
            remote=True,
        )
    done = secure_ml.run(dag.task_dict["spark"])

    assert done.error is None
    assert seen == ["file:///lake/table.csv", "--to=file:///lake/model.bin"]


def test_a_tampered_input_keeps_the_job_from_running(secure_ml, lake, run):
    secure_ml.flip_a_bit(TABLE)

    done = run(lambda table, model: put(model))

    assert isinstance(done.error, IntegrityError)
    assert not lake.info("file:///lake/model.bin")


def test_an_unsigned_input_keeps_the_job_from_running(secure_ml, run):
    put("file:///lake/table.csv", b"age\n54\n")

    done = run(lambda table, model: put(model), reads={"table": Reads(TABLE, sealed=False)})

    assert isinstance(done.error, SignatureError)
    assert done.error.why == "not_signed"


def test_a_plain_input_needs_a_word(secure_ml, run):
    secure_ml.put(TABLE, b"age\n54\n", sealed=False)

    refused = run(lambda table, model: put(model))
    done = run(lambda table, model: put(model), reads={"table": Reads(TABLE, sealed=False)})

    assert isinstance(refused.error, FormatError)
    assert refused.error.why == "not_sealed"
    assert done.error is None


def test_an_input_that_is_replaced_while_the_job_runs_leaves_nothing_signed(secure_ml, lake, run):
    def job(table, model):
        # Signed as well: what counts is that it is another one.
        secure_ml.put(TABLE, b"age\n99\n")
        put(model)

    done = run(job)

    assert isinstance(done.error, IntegrityError)
    assert "replaced while the job ran" in str(done.error)
    assert lake.info("file:///lake/model.bin.sig") is None


def test_an_output_that_is_still_written_while_it_is_signed_is_refused(
    secure_ml, lake, run, monkeypatch
):
    create = lake.create

    def create_late(uri):
        # The job's last thread: its bytes were digested, their statement is not there yet.
        if ".sig/" in uri:
            put("file:///lake/model.bin", b"trained further")
        return create(uri)

    monkeypatch.setattr(lake, "create", create_late)

    done = run(lambda table, model: put(model))

    assert isinstance(done.error, IntegrityError)
    assert "still written while it was signed" in str(done.error)
    assert acts(secure_ml, "object.publish")[-1] == ("outcome", "refused", "digest_differs")


@pytest.mark.parametrize("before", [False, True], ids=["nothing there", "an older one there"])
def test_a_job_that_writes_nothing_is_refused(lake, run, before):
    if before:
        assert run(lambda table, model: put(model)).error is None

    done = run(lambda table, model: None)

    assert isinstance(done.error, PolicyError)
    assert done.error.why == "output_missing"


def test_the_same_task_may_write_it_again(lake, run):
    first = run(lambda table, model: put(model))
    again = run(lambda table, model: put(model, b"trained more"))

    assert again.error is None
    assert again.writes["model"]["digest"] != first.writes["model"]["digest"]


def test_what_somebody_else_wrote_is_not_overwritten(secure_ml, lake, run):
    secure_ml.put(MODEL, b"theirs")
    ran = []

    done = run(lambda table, model: ran.append(put(model)))

    assert isinstance(done.error, PolicyError)
    assert done.error.why == "address_taken"
    assert ran == []


def test_a_plain_output_needs_a_word(lake, run):
    done = run(lambda table, model: put(model), writes={"model": MODEL})

    assert isinstance(done.error, FormatError)
    assert done.error.why == "not_sealed"
    assert lake.info("file:///lake/model.bin.sig") is None


@pytest.mark.parametrize("sealed_for", ["data", "other", "another address"])
def test_a_sealed_output_is_for_its_address_and_its_key(secure_ml, lake, run, sealed_for):
    def job(table, model):
        if sealed_for == "another address":
            secure_ml.put("/lake/x.bin", b"trained")
            lake.put(model, lake.objects["file:///lake/x.bin"])
            return
        secure_ml.put(MODEL, b"trained", key=sealed_for, signed_by=None)

    done = run(job, writes={"model": MODEL})

    if sealed_for == "data":
        assert done.error is None
        assert secure_ml.open(MODEL) == b"trained"
    else:
        assert isinstance(done.error, PolicyError)
        why = "key_not_allowed" if sealed_for == "other" else "context_differs"
        assert done.error.why == why


def test_a_failing_job_signs_nothing(lake, run):
    def job(table, model):
        put(model)
        raise RuntimeError("out of memory")

    done = run(job)

    assert isinstance(done.error, RuntimeError)
    assert lake.info("file:///lake/model.bin.sig") is None


def test_nothing_is_opened_and_no_scratch_is_made(secure_ml, lake, run, monkeypatch):
    monkeypatch.setattr(type(deployment()), "_make_scratch", None)

    assert run(lambda table, model: put(model)).error is None


def test_a_list_of_inputs_is_a_list_of_addresses(secure_ml, lake, run):
    secure_ml.put("/lake/more.csv", b"age\n41\n")
    seen = []

    def job(table, model):
        seen.extend(table)
        put(model)

    done = run(job, reads={"table": [TABLE, "/lake/more.csv"]})

    assert done.error is None
    assert seen == ["file:///lake/table.csv", "file:///lake/more.csv"]


def test_any_operator_may_say_that_its_body_is_elsewhere(secure_ml, lake, tmp_path):
    with DAG("d", schedule=None, start_date=pendulum.datetime(2026, 1, 1)) as dag:
        secure(
            BashOperator(
                task_id="ssh", bash_command=f"echo {{{{ secure.table }}}} > {tmp_path}/said"
            ),
            reads={"table": TABLE},
            remote=True,
        )

    assert secure_ml.run(dag.task_dict["ssh"]).error is None
    assert (tmp_path / "said").read_text() == "file:///lake/table.csv\n"
