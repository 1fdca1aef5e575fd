"""What Airflow calls to write and read XCom values: sealed in the task that has them.

Only workers and the triggerer open values; the database, the API server and the pages hold
ciphertext. What Airflow's scheduler itself must read stays clear.

Source: FACTS, "An encrypting XCom back end must leave the key skipmixin_key in clear".
"""

from __future__ import annotations

import collections
import functools
import json
from typing import Any, cast

from airflow.sdk.bases.xcom import BaseXCom

from airflow_secure_ml.core.sealed_xcom import (
    Place,
    envelope,
    key_context,
    key_folder,
    sealed_in,
)
from airflow_secure_ml.core.sealed_xcom import stays_clear as _stays_clear
from airflow_secure_ml.deployment import Deployment, deployment
from airflow_secure_ml.errors import ConfigurationError, FormatError, SecureMLError
from airflow_secure_ml.securing.surface import surfaced
from airflow_secure_ml.services.recorded_act import printable
from airflow_secure_ml.services.sealed_values import OwnerKeys, open_value, seal_value
from airflow_secure_ml.xcom.lookups import Lookup, act, current_lookup, looking_up
from airflow_secure_ml.xcom.rendered import teach_rendered_fields
from airflow_secure_ml.xcom.sequences import teach_sequences

_Stored = collections.namedtuple("_Stored", "value")


class SealedXComBackend(BaseXCom):
    """XCom values sealed with a key for each DAG; small settings in [secure_ml] (`xcom_*`).

    Source: SEALED_FILE_FORMAT, Data-set key.
    """

    @classmethod
    def serialize_value(
        cls,
        value: Any,
        *,
        key: str | None = None,
        task_id: str | None = None,
        dag_id: str | None = None,
        run_id: str | None = None,
        map_index: int | None = None,
    ) -> Any:
        """Seal a value for its place.

        Raises:
            SecureMLError: It cannot be sealed, or not recorded; nothing is written then.
        """
        if _stays_clear(key, value):
            # Not through an object store: the scheduler would find an address there.
            return BaseXCom.serialize_value(value)
        place = _complete(dag_id, task_id, run_id, key, map_index)
        plain = json.dumps(BaseXCom.serialize_value(value)).encode()
        with act("xcom.write", {"name": printable(place.key)}, place) as outcome:
            sealing = _keys(deployment()).sealing_key(
                key_folder(place.dag_id), key_context(place.dag_id)
            )
            outcome.key = sealing.ref
            sealed = envelope(seal_value(plain, key=sealing, context=place.context()))
        return super().serialize_value(
            sealed, key=key, task_id=task_id, dag_id=dag_id, run_id=run_id, map_index=map_index
        )

    @classmethod
    def deserialize_value(cls, result: Any) -> Any:
        """Open a value that belongs where the look-up under way says.

        Raises:
            SecureMLError: It belongs elsewhere, was altered, or was never sealed and must be.
        """
        lookup = current_lookup()
        try:
            stored = cls.stored(result)
            sealed = sealed_in(stored)
            if sealed is None:
                _check_unsealed(deployment(), lookup, stored)
                return super().deserialize_value(result)
            if lookup is None:
                raise ConfigurationError(
                    "a sealed XCom value, and nobody says where it belongs; read it through "
                    "xcom_pull(), XCom.get_one() or XCom.get_all()"
                )
            plain = _opened(sealed, lookup)
        except SecureMLError as error:
            raise surfaced(error) from error.__cause__
        return BaseXCom.deserialize_value(_Stored(json.loads(plain)))

    @classmethod
    def stored(cls, result: Any) -> Any:
        """The JSON value as it was written; nothing is made of it before it is known to be ours."""
        return result.value

    @classmethod
    def get_one(
        cls,
        *,
        key: str,
        dag_id: str,
        task_id: str,
        run_id: str,
        map_index: int | None = None,
        include_prior_dates: bool = False,
    ) -> Any | None:
        """One value; as in BaseXCom, an event, and only if it belongs there."""
        with looking_up(_one(key, dag_id, task_id, run_id, map_index, include_prior_dates)):
            return super().get_one(
                key=key,
                dag_id=dag_id,
                task_id=task_id,
                run_id=run_id,
                map_index=map_index,
                include_prior_dates=include_prior_dates,
            )

    @classmethod
    async def aget_one(
        cls,
        *,
        key: str,
        dag_id: str,
        task_id: str,
        run_id: str,
        map_index: int | None = None,
        include_prior_dates: bool = False,
    ) -> Any | None:
        """One value, asynchronously; as `get_one`."""
        with looking_up(_one(key, dag_id, task_id, run_id, map_index, include_prior_dates)):
            return await super().aget_one(
                key=key,
                dag_id=dag_id,
                task_id=task_id,
                run_id=run_id,
                map_index=map_index,
                include_prior_dates=include_prior_dates,
            )

    @classmethod
    def get_all(
        cls, *, key: str, dag_id: str, task_id: str, run_id: str, include_prior_dates: bool = False
    ) -> Any:
        """Every map index's value; as `get_one`, and in order, none of them twice."""
        place = _any_index(key, dag_id, task_id, run_id, include_prior_dates)
        with looking_up(place, step=0 if include_prior_dates else 1):
            return super().get_all(
                key=key,
                dag_id=dag_id,
                task_id=task_id,
                run_id=run_id,
                include_prior_dates=include_prior_dates,
            )

    @classmethod
    async def aget_all(
        cls, *, key: str, dag_id: str, task_id: str, run_id: str, include_prior_dates: bool = False
    ) -> Any:
        """Every map index's value, asynchronously; as `get_all`."""
        place = _any_index(key, dag_id, task_id, run_id, include_prior_dates)
        with looking_up(place, step=0 if include_prior_dates else 1):
            return await super().aget_all(
                key=key,
                dag_id=dag_id,
                task_id=task_id,
                run_id=run_id,
                include_prior_dates=include_prior_dates,
            )


teach_sequences(SealedXComBackend)


def _one(
    key: str, dag_id: str, task_id: str, run_id: str, map_index: int | None, prior: bool
) -> Place:
    return Place(
        dag_id=dag_id,
        task_id=task_id,
        key=key,
        # The newest of any run before is what was asked for then.
        run_id=None if prior else run_id,
        map_index=-1 if map_index is None else map_index,
    )


def _any_index(key: str, dag_id: str, task_id: str, run_id: str, prior: bool) -> Place:
    return Place(
        dag_id=dag_id,
        task_id=task_id,
        key=key,
        run_id=None if prior else run_id,
        map_index=None,
    )


def _complete(
    dag_id: str | None,
    task_id: str | None,
    run_id: str | None,
    key: str | None,
    map_index: int | None,
) -> Place:
    """A place to write to; a value without one could be put anywhere."""
    if dag_id is None or task_id is None or run_id is None or key is None:
        raise surfaced(
            ConfigurationError(
                "an XCom value without its DAG, run, task or key cannot be sealed; push it "
                "through xcom_push() or XCom.set()"
            )
        )
    return Place(
        dag_id=dag_id,
        task_id=task_id,
        key=key,
        run_id=run_id,
        map_index=-1 if map_index is None else map_index,
    )


def _opened(sealed: bytes, lookup: Lookup) -> bytes:
    # Not when this module is loaded: Airflow's task runner is then only half there.
    teach_rendered_fields()
    place = lookup.place
    found = open_value(
        sealed,
        name=str(place),
        keys=_keys(deployment()).of(key_folder(place.dag_id)),
        expect=place.context(),
    )
    lookup.opened(found.context, found.key)
    return found.plaintext


def _check_unsealed(here: Deployment, lookup: Lookup | None, stored: Any) -> None:
    if lookup is not None and _stays_clear(lookup.place.key, stored):
        lookup.found("clear")
        return
    if not here.settings.xcom_read_unsealed:
        what = "XCom value" if lookup is None else str(lookup.place)
        raise FormatError(
            f"{what}: found an unsealed value, expected a sealed one; it was written before the "
            "back end was set, or by somebody who is no task. Clear the task that writes it, or "
            "set [secure_ml] xcom_read_unsealed"
        )
    if lookup is not None:
        lookup.found("unsealed")


@functools.lru_cache(maxsize=1)
def _keys(here: Deployment) -> OwnerKeys:
    """The keys of every DAG, found once in a process."""
    settings = here.settings
    root = here.canonical(str(settings.xcom_keys_dir))
    names = dict.fromkeys([settings.xcom_key or settings.data_key, settings.data_key])
    return OwnerKeys(
        here.store(root),
        root,
        keys=here.keys,
        wrap_key=settings.xcom_key or settings.data_key,
        open_keys=cast("Any", tuple(names)),
    )
