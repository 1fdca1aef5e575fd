"""Tell an Airflow notifier of an alert: Slack, mail, whatever there is a provider for.

Airflow is loaded by the first alert. The notifier sees the alert as `alert` in its templates.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import importlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from airflow_secure_ml.errors import ConfigurationError, ServiceUnavailableError

if TYPE_CHECKING:
    from airflow_secure_ml.services.notifying import NewAlert

_OPTION = "[secure_ml] alert_notifier"


class AirflowNotifier:
    """An Airflow notifier. A `services.notifying.Notifier`.

    Args:
        path: `module.name` of an instance, or of what makes one without arguments. The module may
            lie in Airflow's folders for plugins and configuration.

    Raises:
        ConfigurationError: There is none such.
    """

    def __init__(self, path: str) -> None:
        self._notifier = _notifier(path)

    def tell(self, alert: NewAlert) -> None:
        """Render a copy of the notifier and have it notify."""
        notifier = copy.copy(self._notifier)
        context: dict[str, Any] = {"alert": _shown(alert)}
        context |= {name: getattr(notifier, name) for name in notifier.template_fields}
        try:
            notifier.render_template_fields(context)
            # Not by a call of the notifier: that one swallows what goes wrong.
            notifier.notify(context)
        except Exception as error:
            # Of a notifier that we know nothing of, whatever it is: the alert is told again later.
            raise ServiceUnavailableError(
                service="alert notifier", action="notify", reason=type(error).__name__
            ) from error


def _notifier(path: str) -> Any:
    from airflow import settings

    # Where modules of a deployment lie; else only what is installed would be found.
    settings.prepare_syspath_for_config_and_plugins()  # type: ignore[no-untyped-call] # Airflow's
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
        made = (
            found
            if hasattr(found, "render_template_fields") and not isinstance(found, type)
            else found()
        )
    except Exception as error:
        # Whatever the deployment's module does when it is loaded.
        raise ConfigurationError(
            f"{_OPTION}: {path}: {type(error).__name__} while it is loaded; expected a notifier, "
            "or what makes one without arguments"
        ) from error
    if not all(hasattr(made, name) for name in ("render_template_fields", "notify")):
        raise ConfigurationError(
            f"{_OPTION}: {path}: expected a notifier of Airflow, found {type(made).__name__}"
        )
    return made


def _shown(alert: NewAlert) -> dict[str, Any]:
    from airflow.configuration import conf

    time = dt.datetime.fromtimestamp(alert.time_ms / 1000, tz=dt.UTC)
    base = conf.get("api", "base_url", fallback="") or ""
    query = urlencode({"alert": alert.name})
    return {
        **dataclasses.asdict(alert),
        "time": time.isoformat(timespec="seconds"),
        "url": f"{base.rstrip('/')}/secure-ml/alerts?{query}",
    }
