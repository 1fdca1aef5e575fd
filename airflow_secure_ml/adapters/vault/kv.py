"""Read secrets of Vault's KV engine, versions 1 and 2, with what their owners wrote beside them.

Nothing there is told from not allowed and not mounted: only the first means that another store may
be asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import hvac

from airflow_secure_ml.adapters.vault.client import VaultClient
from airflow_secure_ml.adapters.vault.failures import NOT_ACCEPTED, NOT_PLAIN, refusal
from airflow_secure_ml.core.stored_secret import StoredSecret

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MAX_PATH = 1024


class KvEngine:
    """KV engines of one version, at any mount.

    Args:
        client: The client.
        version: 1 or 2.
    """

    def __init__(self, client: VaultClient, *, version: int) -> None:
        self._client, self._version = client, version

    def read(self, mount: str, path: str) -> StoredSecret | None:
        """Read a secret's newest version; None: there is none, or it was deleted.

        Args:
            mount: Where the engine is mounted.
            path: Below it.

        Raises:
            ServiceRefusedError: Vault says no, has no such engine there, or the path is not in
                its plain form.
            ServiceUnavailableError: It does not answer.
            ConfigurationError: Its certificate does not hold.
        """
        action = f"read {mount}/{path}"[:_MAX_PATH]
        middle = "/data/" if self._version == 2 else "/"
        url = f"/v1/{_plain(mount, action)}{middle}{_plain(path, action)}"
        answer = self._client.call(action, lambda vault: _found(vault, url))
        if not answer:
            return None
        data = answer.get("data")
        if self._version == 1:
            return StoredSecret(stored=_object(data, action))
        inner = _object(data, action)
        if inner.get("data") is None:
            return None
        metadata = inner.get("metadata")
        beside = metadata.get("custom_metadata") if isinstance(metadata, Mapping) else None
        return StoredSecret(
            stored=_object(inner["data"], action),
            metadata=_object({} if beside is None else beside, action),
        )


def _found(vault: hvac.Client, url: str) -> Any:
    try:
        return vault.adapter.get(url)
    except hvac.exceptions.InvalidPath as error:
        said = error.json if isinstance(error.json, Mapping) else {}
        # No engine at the mount, or one of the other version: both say more than nothing.
        if error.errors or said.get("warnings"):
            raise
        return {}


def _plain(path: str, action: str) -> str:
    """A path as a URL has it; refused where it would be another one there."""
    parts = path.split("/")
    # Dotted parts would lead out of a team's own path.
    if len(path) > _MAX_PATH or _CONTROL.search(path) or {"", ".", ".."} & set(parts):
        raise refusal(action, NOT_PLAIN)
    return "/".join(quote(part, safe="") for part in parts)


def _object(found: Any, action: str) -> Mapping[str, Any]:
    if not isinstance(found, Mapping):
        raise refusal(action, NOT_ACCEPTED)
    return found
