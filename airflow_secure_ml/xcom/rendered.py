"""Keep opened XCom values out of the rendered fields that Airflow stores and shows in clear.

Arguments and templates take values from XCom before a task runs, and Airflow keeps what they
became. A field that rendering changed is not shown once the try has opened a sealed value: what
went into it is not known field by field.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from airflow_secure_ml.errors import ConfigurationError
from airflow_secure_ml.xcom.lookups import has_opened

HIDDEN = "sealed: it may hold an XCom value"
_TAUGHT = "_secure_ml_taught"
_NAME, _FIELD = "_serialize_rendered_fields", "_serialize_template_field"


def teach_rendered_fields() -> None:
    """Wrap the one function that collects them; a second call does nothing.

    It is wrapped, since Airflow has no other place between rendering and storing them.

    Raises:
        ConfigurationError: This Airflow has no such function, or not the one it is compared with.
    """
    from airflow.sdk.execution_time import task_runner

    collect = getattr(task_runner, _NAME, None)
    if collect is None or not hasattr(task_runner, _FIELD):
        raise ConfigurationError(
            "this release of Airflow collects rendered fields in another way than this release of "
            "airflow-secure-ml knows, so sealed values would be stored there in clear; use one "
            "that it is tested with"
        )
    if not hasattr(collect, _TAUGHT):
        taught = _without_values(collect)
        setattr(taught, _TAUGHT, True)
        setattr(task_runner, _NAME, taught)


def _without_values(collect: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
    @functools.wraps(collect)
    def collected(task: Any) -> dict[str, Any]:
        rendered = collect(task)
        if not has_opened():
            return rendered
        written = _as_written(task)
        return {
            name: text if _is_as_written(written, name, text) else HIDDEN
            for name, text in rendered.items()
        }

    return collected


def _as_written(task: Any) -> Any:
    """The task as its author wrote it; None: it cannot be found."""
    dag = task.get_dag() if hasattr(task, "get_dag") else None
    return None if dag is None else dag.task_dict.get(task.task_id)


def _is_as_written(written: Any, name: str, text: Any) -> bool:
    field = name.partition(".")[0]
    if text is None or name != field:
        return text is None
    from airflow.sdk.execution_time.task_runner import _serialize_template_field

    mapped = getattr(written, "partial_kwargs", None)
    found = mapped.get(field) if mapped is not None else getattr(written, field, None)
    if found is None or not _is_plain(found):
        return False
    return bool(_serialize_template_field(found, field) == text)


def _is_plain(found: Any) -> bool:
    """Whether rendering leaves it as it was; any other object may be rendered in place."""
    if isinstance(found, dict):
        return all(map(_is_plain, found.values()))
    if isinstance(found, (list, tuple, set, frozenset)):
        return all(map(_is_plain, found))
    return found is None or isinstance(found, (str, int, float, bool))
