"""AWS KMS as moto has it, in this process, and what is asked of it.

Nothing that moto accepts is a claim about AWS: it knows neither policies nor grants, and wraps
with disabled keys.
"""

from __future__ import annotations

import itertools
from typing import Any

from moto.backends import get_backend

from airflow_secure_ml.adapters.aws.kms_client import KmsClient
from airflow_secure_ml.adapters.aws.kms_keys import KmsKeys
from airflow_secure_ml.adapters.aws.session import AwsIdentity, AwsSession
from airflow_secure_ml.core.secret import Secret

REGION = "eu-central-1"
_numbers = itertools.count(1)


class KmsPlace:
    """A session whose requests are kept; to be used inside `moto.mock_aws`."""

    def __init__(self) -> None:
        identity = AwsIdentity(
            name="test", access_key="AKIATEST", secret_key=Secret("secret-4711"), region=REGION
        )
        self.session = AwsSession(identity)
        self.kms: Any = self.session.client("kms")
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.waited: list[float] = []
        self.kms.meta.events.register("provide-client-params.kms.*", self._keep)

    def _keep(self, params: dict[str, Any], model: Any, **more: Any) -> None:
        self.asked.append((model.name, dict(params)))

    def empty(self) -> None:
        """Begin anew: no key, nothing asked."""
        for backend in get_backend("kms").values():
            for each in backend.values():
                each.reset()
        self.asked.clear()
        self.waited.clear()

    def client(self, **options: Any) -> KmsClient:
        """A client of ours."""
        return KmsClient(lambda: self.session, **options)

    def keys(self, names: dict[str, str] | None = None, **options: Any) -> KmsKeys:
        """The key system; `data` opens when nobody names a key."""
        given = {"wraps": ["data"], "pause": self.waited.append} | options
        return KmsKeys(self.client(), names=names or {}, **given)

    def make(self, alias: str | None = "data", **options: Any) -> str:
        """Make a key, with an alias; returns its ARN."""
        order = {"KeyUsage": "ENCRYPT_DECRYPT"} | options
        arn: str = self.kms.create_key(**order)["KeyMetadata"]["Arn"]
        if alias is not None:
            self.kms.create_alias(AliasName=f"alias/{alias}", TargetKeyId=arn)
        self.asked.clear()
        return arn
