"""`open_artifact`: the way in for notebooks, services, and addresses known only at run time."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow_secure_ml.current_task import body_run
from airflow_secure_ml.errors import ConfigurationError, SecureMLError
from airflow_secure_ml.securing.options import is_reference
from airflow_secure_ml.services.run_plan import Input, Pin, Plan
from airflow_secure_ml.services.secured_run import Ending

if TYPE_CHECKING:
    from airflow_secure_ml.core.audit.event import RunRef

log = logging.getLogger(__name__)

_NAME = "artifact"


@contextlib.contextmanager
def open_artifact(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    signed_by: str | Collection[str] | None = None,
    context: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Path]:
    """Verify and open an artifact for the time of a `with` block.

    Works in a task, a notebook and a service alike; the copy is in memory and gone afterwards.

    Args:
        source: An address, or a Reference, which pins the digest; a bare address does not protect
            against an older signed artifact put in its place.
        signed_by: Names of accepted sign keys; None: the rule for its prefix, then
            `[secure_ml] trusted_signers`.
        context: Pairs that the encryption context must hold besides `object`.

    Yields:
        A path in scratch: a file, or a directory.

    Raises:
        SecureMLError: It is refused, or another system failed; recorded in the trail.

    Source: API.
    """
    from airflow_secure_ml.deployment import deployment
    from airflow_secure_ml.recording import sink_of_this_process

    here, run = deployment(), body_run()
    secured = here.secured_run(
        lambda: plan_of(here.canonical, source, signed_by, context, run),
        reads=[_NAME],
        writes=[],
        operator="open_artifact",
        sink=sink_of_this_process(run, program="task" if run is not None else "python"),
        run=run,
        still_ours=lambda: None,
        tell=log.info,
    )
    try:
        with secured:
            path = secured.open()[_NAME]
            assert isinstance(path, Path)
            try:
                yield path
            except BaseException as error:
                secured.end(Ending.RAISED, error)
                raise
            secured.publish()
    except SecureMLError as error:
        if secured.raised_by_body(error):
            raise
        raise _surfaced(error) from error.__cause__


def plan_of(
    canonical: Any,
    source: Any,
    signed_by: str | Collection[str] | None,
    context: Mapping[str, str],
    run: RunRef | None,
) -> Plan:
    """The plan of whoever opens one artifact by its address or Reference."""
    from airflow_secure_ml.securing.addresses import check_reference, check_signers

    pin = None
    if is_reference(source):
        source = check_reference("open_artifact()", source)
        pin = Pin(digest=source["digest"], by="reference")
        source = source["uri"]
    if not isinstance(source, (str, os.PathLike)):
        raise ConfigurationError(
            f"open_artifact(): expected an address or a Reference, found {type(source).__name__}"
        )
    one = (signed_by,) if isinstance(signed_by, str) else signed_by
    check_signers("open_artifact()", one)
    item = Input(
        name=_NAME,
        uri=canonical(os.fspath(source)),
        signed_by=None if one is None else tuple(one),
        context=dict(context),
        pin=pin,
    )
    if run is None:
        return Plan(inputs=(item,))
    return Plan(
        inputs=(item,),
        dag_id=run.dag,
        task_id=run.task or "",
        run_id=run.run,
        map_index=run.map_index,
    )


def _surfaced(error: SecureMLError) -> SecureMLError:
    if "airflow.sdk" not in sys.modules:
        return error
    from airflow_secure_ml.securing.surface import surfaced

    return surfaced(error)
