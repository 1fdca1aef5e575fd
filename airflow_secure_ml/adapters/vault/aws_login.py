"""AWS IAM: Vault has AWS say who signed a question to its token service.

hvac's own signs for the one global address, which takes no other region's signatures; so the
signing is botocore's. Credentials are found as boto3 finds them, environment included.

Source: Vault, AWS auth method, "IAM auth method".
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import boto3
import hvac
from botocore import exceptions as aws_exceptions
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from airflow_secure_ml.adapters.vault.client import Ask
from airflow_secure_ml.adapters.vault.failures import LOG_IN
from airflow_secure_ml.adapters.vault.token import Token
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import (
    ConfigurationError,
    SecureMLError,
    ServiceRefusedError,
    ServiceUnavailableError,
)

GLOBAL_REGION = "us-east-1"
_GLOBAL = "https://sts.amazonaws.com/"
_QUESTION = "Action=GetCallerIdentity&Version=2011-06-15"
_SERVER_ID = "X-Vault-AWS-IAM-Server-ID"
_BUSY = ("Throttling", "ThrottlingException", "RequestLimitExceeded", "ServiceUnavailable")
_NOT_REACHED = (
    aws_exceptions.ConnectionError,
    aws_exceptions.HTTPClientError,
    aws_exceptions.CredentialRetrievalError,
    aws_exceptions.MetadataRetrievalError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsIamLogin:
    """An AWS identity.

    Attributes:
        role: Vault's role; None: one of the principal's name.
        region: Where AWS is asked.
        server_id: What Vault expects in the signed header of that name; None: nothing.
        assume: Arguments of STS' AssumeRole, for the role to become first; None: none.
        access_key: An access key's id; None: boto3 finds the credentials.
        secret_key: Its secret.
        mount: Where the method is mounted.
    """

    role: str | None = None
    region: str = GLOBAL_REGION
    server_id: str | None = None
    assume: tuple[tuple[str, str], ...] = ()
    access_key: str | None = None
    secret_key: Secret | None = None
    mount: str = "aws"

    def log_in(self, ask: Ask) -> Token:
        """Log in.

        Raises:
            ConfigurationError: No AWS credentials.
            ServiceError: AWS does not answer, or refuses the role to become.
        """
        # A signed question is a secret while AWS takes it: 15 minutes.
        signed = self._signed_question()
        signed |= {} if self.role is None else {"role": self.role}

        def request(vault: hvac.Client) -> object:
            return vault.adapter.login(
                f"/v1/auth/{quote(self.mount)}/login", use_token=False, json=signed
            )

        return Token.of_login(ask(f"{LOG_IN} by AWS IAM at {self.mount}", request))

    def _signed_question(self) -> dict[str, str]:
        try:
            credentials, address = self._credentials()
            headers = {
                "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
                "Host": urlsplit(address).netloc,
            }
            if self.server_id is not None:
                headers[_SERVER_ID] = self.server_id
            question = AWSRequest("POST", address, headers=headers, data=_QUESTION)
            SigV4Auth(credentials, "sts", self.region).add_auth(question)
        except (aws_exceptions.BotoCoreError, aws_exceptions.ClientError) as error:
            raise of_aws(error) from RuntimeError(type(error).__name__)
        signed = {name: [value] for name, value in question.headers.items()}
        return {
            "iam_http_request_method": "POST",
            "iam_request_url": _base64(address),
            "iam_request_headers": _base64(json.dumps(signed)),
            "iam_request_body": _base64(_QUESTION),
        }

    def _credentials(self) -> tuple[Any, str]:
        """botocore's credentials, and the address of AWS' token service."""
        session = boto3.Session(
            aws_access_key_id=self.access_key,
            aws_secret_access_key=None if self.secret_key is None else self.secret_key.reveal(),
            region_name=self.region,
        )
        # Not an address of the environment: Vault asks at the one it was told.
        config = Config(ignore_configured_endpoint_urls=True, connect_timeout=5, read_timeout=10)
        sts = session.client("sts", config=config)
        address = _GLOBAL if self.region == GLOBAL_REGION else f"{sts.meta.endpoint_url}/"
        found = session.get_credentials()
        if found is None:
            raise ConfigurationError(
                "vault: AWS IAM login: no AWS credentials; expected them in the connection's "
                "login and password, or where boto3 looks (environment, ~/.aws, the machine's role)"
            )
        if not self.assume:
            return found.get_frozen_credentials(), address
        made = sts.assume_role(**dict(self.assume))["Credentials"]
        become = Credentials(made["AccessKeyId"], made["SecretAccessKey"], made["SessionToken"])
        return become, address


def of_aws(error: Exception) -> SecureMLError:
    """Ours for what botocore raises; its text may name more than a log should hold."""
    answer = getattr(error, "response", None)
    code = answer.get("Error", {}).get("Code") if isinstance(answer, dict) else None
    action, reason = "become a role for the login", str(code or type(error).__name__)[:80]
    if code is not None and code not in _BUSY:
        return ServiceRefusedError(
            f"aws sts refused to {action}: {reason}; its trust policy must allow this identity",
            service="aws sts",
            action=action,
            reason=reason,
        )
    if code is not None or isinstance(error, _NOT_REACHED):
        return ServiceUnavailableError(
            f"aws sts did not answer: {reason}", service="aws sts", action=action, reason=reason
        )
    return ConfigurationError(
        f"vault: AWS IAM login: {reason}; check the AWS credentials, region and role"
    )


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
