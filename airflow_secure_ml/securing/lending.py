"""`lend_parquet_keys`: let Spark or Arrow read a file with column keys where it lies.

For data that is too large for scratch. What is read afterwards is no longer ours to check: the
caller reads it from where nobody else may write.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from airflow_secure_ml.current_task import body_run
from airflow_secure_ml.errors import SecureMLError
from airflow_secure_ml.securing.leaving import also_keep
from airflow_secure_ml.securing.opening import plan_of
from airflow_secure_ml.services.parquet_lending import LentKeys, lend_columns

if TYPE_CHECKING:
    from airflow_secure_ml.services.desk import Work

log = logging.getLogger(__name__)


def lend_parquet_keys(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    signed_by: str | Collection[str] | None = None,
    columns: Collection[str] = (),
) -> LentKeys:
    """Verify an artifact whole, and lend the keys of the columns that this reader may read.

    Args:
        source: An address, or a Reference, which pins the digest.
        signed_by: Names of accepted sign keys; None: the rule for its prefix, then
            `[secure_ml] trusted_signers`.
        columns: The only ones to lend keys of; one that may not be read is a refusal. Empty: all
            that may be.

    Returns:
        The keys; `spark_options()` are options of a Spark read.

    Raises:
        SecureMLError: It is refused, or another system failed; recorded in the trail.
    """
    work = _work(source, signed_by)
    try:
        lent = lend_columns(work, work.plan.inputs[0], columns)
    except SecureMLError as error:
        raise _surfaced(error) from error.__cause__
    finally:
        work.journal.settle()
    _mask(lent)
    return lent


def _mask(lent: LentKeys) -> None:
    """Keep the keys out of Airflow's database and logs; in a notebook there is neither."""
    also_keep(lent.secrets)
    if body_run() is None:
        return
    from airflow.sdk.log import mask_secret

    mask_secret(list(lent.secrets))


def _work(source: Any, signed_by: str | Collection[str] | None) -> Work:
    from airflow_secure_ml.deployment import deployment
    from airflow_secure_ml.recording import sink_of_this_process

    here, run = deployment(), body_run()
    return here.work(
        plan_of(here.canonical, source, signed_by, {}, run),
        sink=sink_of_this_process(run, program="task" if run is not None else "python"),
        run=run,
        still_ours=lambda: None,
        tell=log.info,
    )


def _surfaced(error: SecureMLError) -> SecureMLError:
    if "airflow.sdk" not in sys.modules:
        return error
    from airflow_secure_ml.securing.surface import surfaced

    return surfaced(error)
