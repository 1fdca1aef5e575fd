"""What Airflow finds through the entry point `airflow.plugins`: tabs, the pages' app, the listener.

Loaded by every Airflow process, tasks included: it names things, and imports what is behind a name
only where Airflow asks for it.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow.plugins_manager import AirflowPlugin

log = logging.getLogger(__name__)

URL_PREFIX = "/secure-ml"
_BASE = URL_PREFIX.removeprefix("/")
_TASK_QUERY = "dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}"


class SecureMLPlugin(AirflowPlugin):
    """The plugin `secure_ml`."""

    name = "secure_ml"
    external_views = [  # noqa: RUF012 - Airflow's own attribute, a list there
        {
            "name": "Security audit",
            "href": f"{_BASE}/events",
            "destination": "nav",
            "category": "browse",
            "url_route": "security-audit",
        },
        {
            "name": "Security audit",
            "href": f"{_BASE}/dag?dag_id={{DAG_ID}}",
            "destination": "dag",
            "url_route": "security-audit-dag",
        },
        {
            "name": "Security audit",
            "href": f"{_BASE}/run?dag_id={{DAG_ID}}&run_id={{RUN_ID}}",
            "destination": "dag_run",
            "url_route": "security-audit-run",
        },
        {
            "name": "Security audit",
            "href": f"{_BASE}/task?{_TASK_QUERY}",
            "destination": "task_instance",
            "url_route": "security-audit-task",
        },
    ]

    @classmethod
    def on_load(cls, *args: Any, **kwargs: Any) -> None:
        """Called once in each process that loads plugins, before an executor starts workers."""
        from airflow_secure_ml.plugin.log_masking import mask_component_output

        mask_component_output()

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override] # made when asked for
        """The pages' app; only the API server asks."""
        from airflow_secure_ml.plugin.app import shared_app

        return [{"app": shared_app(), "url_prefix": URL_PREFIX, "name": "Security audit"}]

    @property
    def fastapi_root_middlewares(self) -> list[dict[str, Any]]:  # type: ignore[override] # as above
        """What sees every request to the API server, unless `[secure_ml] record_reads` is false."""
        if not _is_on("record_reads"):
            return []
        from airflow_secure_ml.plugin.reads_middleware import ReadsMiddleware

        return [{"middleware": ReadsMiddleware, "name": "Security audit"}]

    @property
    def listeners(self) -> list[Any]:  # type: ignore[override] # made when asked for
        """The listener, unless `[secure_ml] listener` is false."""
        if not _is_on("listener"):
            return []
        from airflow_secure_ml.plugin import listener

        return [listener]


def _is_on(switch: str) -> bool:
    from airflow_secure_ml.errors import ConfigurationError
    from airflow_secure_ml.settings import load_settings

    try:
        return bool(getattr(load_settings(with_airflow=True), switch))
    except ConfigurationError:
        # Every Airflow process asks; raising would stop those that secure nothing, too.
        log.exception("the %s option stays off until [secure_ml] is mended", switch)
        return False
