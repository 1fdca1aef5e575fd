"""From an AWS identity to boto3's clients, for this process and the children that it forks.

Every client speaks TLS, wherever its address came from, unless plain http was allowed in so many
words. A role is become when it is first needed, and again before its credentials end.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import (
    CredentialProvider,
    CredentialResolver,
    Credentials,
    DeferredRefreshableCredentials,
)

from airflow_secure_ml.adapters.aws.failures import STS, asking
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError

# One for each thread that asks at once; more would wait for one another.
MAX_CONNECTIONS = 32
ATTEMPTS = 4
# At DEBUG they write answers as they came: session tokens, and data keys in clear.
_TALKATIVE = ("boto3", "botocore", "s3transfer")


@dataclass(frozen=True, slots=True, kw_only=True)
class AssumedRole:
    """A role to become.

    Attributes:
        arn: Its name.
        arguments: More of STS' AssumeRole: `RoleSessionName`, `ExternalId`, `DurationSeconds`, …
    """

    arn: str
    arguments: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsIdentity:
    """Who speaks, and to which address; values only.

    Attributes:
        name: How messages call it, such as `connection aws_default`.
        access_key: An access key's id; None: boto3 finds the credentials.
        secret_key: Its secret.
        session_token: Of temporary credentials, which nobody renews.
        profile: Of the shared configuration files; None: the environment's or `default`.
        region: None: the environment's or the profile's.
        role: Become before anything is asked; None: none.
        endpoint: Address of every service but STS; None: AWS' own.
        endpoints: Addresses by service, before `endpoint`.
        ca: Path of the certificates that a server's must lead to; None: those of botocore.
        allow_http: Whether an address may be `http://`.
        addressing_style: `path`, `virtual` or `auto`: where S3's bucket stands in the address.
        proxies: Addresses of proxies by scheme.
        use_fips: Whether AWS' FIPS endpoints are spoken to.
        use_dualstack: Whether AWS' endpoints for IPv6 and IPv4 are spoken to.
        connect_timeout_s: Seconds that one connection may take.
        read_timeout_s: Seconds that a server may stay silent.
    """

    name: str
    access_key: str | None = None
    secret_key: Secret | None = None
    session_token: Secret | None = None
    profile: str | None = None
    region: str | None = None
    role: AssumedRole | None = None
    endpoint: str | None = None
    endpoints: Mapping[str, str] = field(default_factory=dict)
    ca: str | None = None
    allow_http: bool = False
    addressing_style: str = "auto"
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    use_fips: bool = False
    use_dualstack: bool = False
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0


@dataclass(slots=True)
class _Made:
    """What one process made."""

    pid: int = field(default_factory=os.getpid)
    lock: threading.Lock = field(default_factory=threading.Lock)
    session: Any = None
    clients: dict[str, Any] = field(default_factory=dict)


class AwsSession:
    """Clients of one identity, each made once a process. Safe from many threads.

    Args:
        identity: Who speaks; nothing is read or connected before the first client is asked for.
    """

    def __init__(self, identity: AwsIdentity) -> None:
        self.identity = identity
        self._mine = _Made()

    def client(self, service: str) -> Any:
        """boto3's client of a service, such as `s3` or `kms`.

        A forked child gets clients of its own: two processes on one connection would read each
        other's answers.

        Raises:
            ConfigurationError: No such profile, no region, an address that is not https.
        """
        mine = self._mine
        if mine.pid != os.getpid():
            # Its lock stays behind, too: another thread of the parent may have held it.
            mine = self._mine = _Made()
        with mine.lock, asking(service, f"be asked as {self.identity.name}"):
            if mine.session is None:
                _quiet()
                mine.session = self._boto3_session()
            if service not in mine.clients:
                mine.clients[service] = self._client_of(mine.session, service)
            return mine.clients[service]

    def _client_of(self, session: Any, service: str) -> Any:
        identity = self.identity
        # A role is become at AWS, wherever the objects are.
        endpoint = identity.endpoints.get(service, None if service == "sts" else identity.endpoint)
        self._check_ca()
        try:
            made = session.client(
                service, endpoint_url=endpoint, verify=identity.ca, config=self._config(service)
            )
        except ValueError as error:
            raise ConfigurationError(
                f"{identity.name}: the address of {service} cannot be read; expected "
                "https://host or https://host:port, look at the environment and the profile, too"
            ) from error
        # Looked at in the client: the environment and the profile may hold addresses, too.
        if not made.meta.endpoint_url.startswith("https://") and not identity.allow_http:
            raise ConfigurationError(
                f"{identity.name}: the address of {service} is not encrypted, and what is sent "
                "would be readable on the way; use https://, or set allow_http in secure_ml of "
                "the connection's extra for a test"
            )
        return made

    def _check_ca(self) -> None:
        path = self.identity.ca
        if path is None:
            return
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
        # At the first request it would look like a server that does not answer.
        except OSError as error:
            raise ConfigurationError(
                f"{self.identity.name}: verify {path}: expected a file of certificates of CAs, "
                f"PEM, found none that can be read ({type(error).__name__})"
            ) from error

    def _boto3_session(self) -> Any:
        identity = self.identity
        core = botocore.session.Session(profile=identity.profile)
        if identity.access_key is not None and identity.secret_key is not None:
            token = identity.session_token
            given = Credentials(
                identity.access_key,
                identity.secret_key.reveal(),
                None if token is None else token.reveal(),
                method=_Given.METHOD,
            )
            core.register_component("credential_provider", CredentialResolver([_Given(given)]))
        session = boto3.session.Session(botocore_session=core, region_name=identity.region)
        return session if identity.role is None else self._become(session, identity.role)

    def _become(self, session: Any, role: AssumedRole) -> Any:
        sts = self._client_of(session, "sts")

        def assume() -> dict[str, Any]:
            with asking(STS, f"become {role.arn} as {self.identity.name}"):
                made = sts.assume_role(RoleArn=role.arn, **role.arguments)["Credentials"]
            return {
                "access_key": made["AccessKeyId"],
                "secret_key": made["SecretAccessKey"],
                "token": made["SessionToken"],
                "expiry_time": made["Expiration"].isoformat(),
            }

        become = DeferredRefreshableCredentials(assume, method=_Given.METHOD)
        core = botocore.session.Session(profile=self.identity.profile)
        core.register_component("credential_provider", CredentialResolver([_Given(become)]))
        return boto3.session.Session(
            botocore_session=core, region_name=session.region_name or self.identity.region
        )

    def _config(self, service: str) -> Config:
        identity = self.identity
        # What is asked of S3 is tried again by `s3.place`, and not once nobody waits for it.
        attempts = 1 if service == "s3" else ATTEMPTS
        return Config(
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=identity.connect_timeout_s,
            read_timeout=identity.read_timeout_s,
            max_pool_connections=MAX_CONNECTIONS,
            tcp_keepalive=True,
            # Not as the environment has it. What is stored is sent with its sum as a header; of its
            # own, botocore would frame the bytes in chunks, which some stores refuse at times.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_supported",
            proxies=dict(identity.proxies) or None,
            use_fips_endpoint=identity.use_fips or None,
            use_dualstack_endpoint=identity.use_dualstack or None,
            s3=_s3_options(identity),
            user_agent_extra="airflow-secure-ml",
        )


def _s3_options(identity: AwsIdentity) -> dict[str, Any]:
    options: dict[str, Any] = {"addressing_style": identity.addressing_style}
    if not identity.allow_http:
        # TLS holds the bytes to the request, and their sum goes with them. With a sum that is given
        # botocore would digest them once more for its signature: a third of an upload's CPU.
        options["payload_signing_enabled"] = False
    return options


class _Given(CredentialProvider):  # type: ignore[misc]  # botocore has no types
    """Credentials that are there already, instead of botocore's search."""

    METHOD = "airflow-secure-ml"

    def __init__(self, given: Credentials) -> None:
        super().__init__()
        self._given = given

    def load(self) -> Credentials:
        return self._given


def _quiet() -> None:
    for name in _TALKATIVE:
        logger = logging.getLogger(name)
        # Set in any case: the root's level may be lowered later.
        logger.setLevel(max(logger.getEffectiveLevel(), logging.INFO))
