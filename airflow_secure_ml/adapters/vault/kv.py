"""Read secrets of Vault's KV engine, versions 1 and 2, with what their owners wrote beside them.

Nothing there is told from not allowed, not mounted, and whatever else says 404 on the way to Vault:
only the first means that another store may be asked.
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
from airflow_secure_ml.errors import ConfigurationError, ServiceRefusedError

# Surrogates on their own, too: no URL holds them.
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_MAX_PATH = 1024
_MOUNTS = "/v1/sys/internal/ui/mounts/"
_NOTHING: dict[str, Any] = {}


class KvEngine:
    """KV engines of one version, at any mount.

    Args:
        client: The client.
        version: 1 or 2.
    """

    def __init__(self, client: VaultClient, *, version: int) -> None:
        self._client, self._version = client, version
        self._looked_at: set[str] = set()

    def read(self, mount: str, path: str) -> StoredSecret | None:
        """Read a secret's newest version; None: there is none, or it was deleted.

        Args:
            mount: Where the engine is mounted.
            path: Below it.

        Raises:
            ServiceRefusedError: Vault says no, has no such engine there, or the path is not in
                its plain form.
            ServiceUnavailableError: It does not answer.
            ConfigurationError: Its certificate does not hold, or the engine is of the other
                version.
        """
        # Without line breaks: it stands in messages, and these in logs.
        action = _CONTROL.sub("?", f"read {mount}/{path}"[:_MAX_PATH])
        middle = "/data/" if self._version == 2 else "/"
        url = f"/v1/{_plain(mount, action)}{middle}{_plain(path, action)}"
        answer = self._client.call(action, lambda vault: _found(vault, url))
        if answer is _NOTHING:
            self._check_version(mount)
            return None
        data = _object(answer.get("data"), action)
        if self._version == 1:
            return StoredSecret(stored=data)
        metadata = data.get("metadata")
        beside = metadata.get("custom_metadata") if isinstance(metadata, Mapping) else None
        return StoredSecret(
            stored=_object(data.get("data"), action),
            metadata=_object({} if beside is None else beside, action),
        )

    def _check_version(self, mount: str) -> None:
        """Look once whether the engine is of this version: one of the other has no such paths."""
        if mount in self._looked_at:
            return
        action = f"look at engine {mount}"[:_MAX_PATH]
        url = _MOUNTS + _plain(mount, action)
        try:
            found = self._client.call(action, lambda vault: vault.adapter.get(url))
        except ServiceRefusedError:
            # A gateway that lets only secrets through: the setting is believed.
            found = {}
        options = _mapping(_mapping(found.get("data")).get("options"))
        version = str(options.get("version") or 1)
        if found and version != str(self._version):
            raise ConfigurationError(
                f"vault: engine {mount} is of KV version {version}, and was asked as one of "
                f"version {self._version}; set the version to {version}"
            )
        self._looked_at.add(mount)


def _found(vault: hvac.Client, url: str) -> Any:
    try:
        return vault.adapter.get(url)
    except hvac.exceptions.InvalidPath as error:
        if _is_absence(_mapping(error.json)):
            return _NOTHING
        raise


def _is_absence(said: Mapping[str, Any]) -> bool:
    """Whether a 404 is Vault's own word that nothing is there, and not a page of a proxy.

    No engine at the mount, or one of version 2 asked as version 1, say more than nothing.
    """
    if said.get("warnings"):
        return False
    if said.get("errors") == []:
        return True
    # Of a version that was deleted or destroyed, the metadata is left.
    data = _mapping(said.get("data"))
    return "metadata" in data and data.get("data") is None


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


def _mapping(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}
