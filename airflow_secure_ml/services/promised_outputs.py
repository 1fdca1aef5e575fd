"""What is known of an output before the body runs, and whether it could be published after it.

Refused here, it costs nobody the work of a body. Sealing is `services.secured_outputs`' part.

Source: SECURE_TASK, "Order, whatever happens".
"""

from __future__ import annotations

from collections.abc import Sequence

from airflow_secure_ml.core.manifest import Manifest
from airflow_secure_ml.core.ports import KeyWrapper
from airflow_secure_ml.core.statement import Producer, Statement, Suite
from airflow_secure_ml.errors import (
    ConfigurationError,
    SecureMLError,
)
from airflow_secure_ml.services.desk import Work
from airflow_secure_ml.services.key_choice import sealing_keys
from airflow_secure_ml.services.parquet_outputs import column_keys
from airflow_secure_ml.services.run_plan import Output
from airflow_secure_ml.services.signing import check_may_replace

OURS, _STATEMENTS = "_asml", ".sig"


def check_output(work: Work, item: Output) -> None:
    """Refuse an output before the body runs, if it could not be published after it.

    Raises:
        SecureMLError: A rule denies it, or its keys are not to be had; recorded.
    """
    desk, journal = work.desk, work.journal
    if desk.rules is not None:
        key = key_name(work, item) if item.sealed else None
        work.obey(desk.rules.decide_write(item.uri, key=key, today=work.today), "write", item.name)
    try:
        _check_name(item)
        if item.columns:
            column_keys(work, item, key_name(work, item))
        elif item.sealed:
            wrappers_of(work, item)
        desk.keys.signer(desk.signing_key)
        check_is_replaceable(work, item)
    except SecureMLError as error:
        act = "object.publish" if error.why == "address_taken" else "object.seal"
        journal.refused(act, error, object=output_facts(item))
        raise


def _check_name(item: Output) -> None:
    """Keep the names of statements and of a directory's keys for them."""
    for part in item.uri.split("/"):
        if part == OURS or part.endswith(_STATEMENTS):
            raise ConfigurationError(
                f"{item.name}: {item.uri} holds {part!r}, and names with {_STATEMENTS} or "
                f"{OURS} are kept for statements and keys; choose another"
            )


def check_outputs_apart(work: Work, items: Sequence[Output]) -> None:
    """Refuse outputs of one run of which one would replace another, or lie in it.

    Raises:
        ConfigurationError: Two addresses are the same, or one is below the other; recorded.
    """
    for at, one in enumerate(items):
        for other in items[:at]:
            first, second = f"{other.uri}/", f"{one.uri}/"
            if first.startswith(second) or second.startswith(first):
                error = ConfigurationError(
                    f"{one.name}: its address {one.uri} and that of {other.name}, {other.uri}, "
                    "are one place; give each output its own"
                )
                work.journal.refused("object.publish", error, object=output_facts(one))
                raise error


def producer_of(work: Work) -> Producer:
    """The task that a run is, as statements name it."""
    plan = work.plan
    return Producer(
        dag_id=plan.dag_id, task_id=plan.task_id, run_id=plan.run_id, map_index=plan.map_index
    )


def key_name(work: Work, item: Output) -> str:
    rules = work.desk.rules
    return item.key or (rules and rules.key_for_write(item.uri)) or work.desk.data_key


def wrappers_of(work: Work, item: Output) -> list[KeyWrapper]:
    """Who shall be able to open it; empty: it is not sealed."""
    return sealing_keys(work.desk.keys, [key_name(work, item)]) if item.sealed else []


def check_is_replaceable(work: Work, item: Output) -> None:
    """Return if nothing lies there, or what the same task wrote; PolicyError otherwise."""
    verifiers = work.desk.keys.verifiers({work.desk.signing_key})
    check_may_replace(work.desk.store(item.uri), item.uri, producer_of(work), verifiers)


def context_of(work: Work, item: Output) -> dict[str, str]:
    """What an output's encryption context and statement hold besides `object`."""
    plan = work.plan
    return {
        **item.context,
        "dag_id": plan.dag_id,
        "task_id": plan.task_id,
        "run_id": plan.run_id,
        "map_index": str(plan.map_index),
    }


def written_statement(
    work: Work, item: Output, manifest: Manifest, suites: tuple[Suite, ...] = ()
) -> Statement:
    """What is signed about an output that this task wrote."""
    return Statement(
        object=item.uri,
        manifest=manifest,
        act="write",
        signed_ms=work.desk.now_ms(),
        producer=producer_of(work),
        context={**context_of(work, item), "object": item.uri},
        suites=suites,
    )


def output_facts(item: Output) -> dict[str, object]:
    return {"name": item.name, "uri": item.uri}
