"""From a connection's fields to an AWS identity; nothing is read or connected.

Connections of the official amazon provider are taken as they are, with two exceptions: plain http
needs `secure_ml.allow_http`, and `verify: false` is refused. What of its extra has no meaning here
is left to it; what stands under `secure_ml` is ours, and every name there must be known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_secure_ml.adapters.aws.s3.terms import Asked
from airflow_secure_ml.adapters.aws.session import AssumedRole, AwsIdentity
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import ConfigurationError

if TYPE_CHECKING:
    from airflow_secure_ml.hooks.connections import ConnectionFields

CONN_TYPE = "aws"
OURS = "secure_ml"

_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
_ARN = re.compile(r"arn:[a-z0-9-]+:iam::\d{12}:role/[\x21-\x7e]{1,512}", re.ASCII)
_REGION = re.compile(r"[a-z0-9-]{1,64}", re.ASCII)
_PRINTABLE = re.compile(r"[\x21-\x7e]+", re.ASCII)
_SESSION = "airflow-secure-ml"
# Arguments of STS' AssumeRole; SerialNumber and TokenCode need a person at the keyboard.
_ROLE_ARGUMENTS = {
    "RoleSessionName", "ExternalId", "DurationSeconds", "Policy", "PolicyArns", "Tags",
    "TransitiveTagKeys", "SourceIdentity",
}  # fmt: skip
_STYLES = ("auto", "path", "virtual")
_ASKED = {"sse", "sse_kms_key_id", "object_lock", "object_lock_days", "legal_hold", "allow_http"}
_MAX_DAYS = 36_500
_MAX_SECONDS = 3600.0


class AwsConnection:
    """A connection's fields, read as an AWS identity's.

    Args:
        fields: The connection.

    Raises:
        ConfigurationError: A type, field or value that leads to no identity; its name is told, and
            no secret.
    """

    def __init__(self, fields: ConnectionFields) -> None:
        self._fields, self._extra = fields, dict(fields.extra)
        if fields.conn_type != CONN_TYPE:
            raise self._wrong(f"it is of type {fields.conn_type!r}; expected {CONN_TYPE}")
        self._ours = self._object(self._extra, OURS)
        if unknown := sorted(set(self._ours) - _ASKED):
            names = ", ".join(repr(name[:40]) for name in unknown[:5])
            raise self._wrong(
                f"{OURS} in its extra has {names}; expected none but {', '.join(sorted(_ASKED))}"
            )

    def identity(self) -> AwsIdentity:
        """Who it speaks as, and where."""
        allow_http = self._flag(self._ours, "allow_http") or False
        config = self._object(self._extra, "config_kwargs")
        access_key, secret_key, token = self._credentials()
        return AwsIdentity(
            name=f"connection {self._fields.conn_id}",
            access_key=access_key,
            secret_key=secret_key,
            session_token=token,
            profile=self._text(self._extra, "profile_name")
            or self._text(self._object(self._extra, "session_kwargs"), "profile_name"),
            region=self._region(config),
            role=self._role(),
            endpoint=self._address(self._extra, "endpoint_url", allow_http),
            endpoints=self._endpoints(allow_http),
            ca=self._ca(),
            allow_http=allow_http,
            addressing_style=self._style(config),
            proxies=self._proxies(config),
            use_fips=self._flag(config, "use_fips_endpoint") or False,
            use_dualstack=self._flag(config, "use_dualstack_endpoint") or False,
            connect_timeout_s=self._seconds(config, "connect_timeout", 10.0),
            read_timeout_s=self._seconds(config, "read_timeout", 60.0),
        )

    def asked(self) -> Asked:
        """What its objects in S3 are to have besides."""
        try:
            return Asked(
                sse=self._text(self._ours, "sse") or "",
                sse_kms_key_id=self._text(self._ours, "sse_kms_key_id") or "",
                object_lock=(self._text(self._ours, "object_lock") or "").upper(),
                object_lock_days=self._days(),
                legal_hold=self._flag(self._ours, "legal_hold") or False,
            )
        except ConfigurationError as error:
            raise self._wrong(f"{OURS}: {error}") from error

    def _wrong(self, what: str) -> ConfigurationError:
        return ConfigurationError(f"connection {self._fields.conn_id}: {what}")

    def _credentials(self) -> tuple[str | None, Secret | None, Secret | None]:
        """Where the official provider looks, in its order."""
        login, password = self._fields.login, self._fields.password
        if (login is None) != (password is None):
            raise self._wrong("login and password: one without the other; expected both or none")
        session = self._object(self._extra, "session_kwargs")
        token = self._secret(self._extra, "aws_session_token") or self._secret(
            session, "aws_session_token"
        )
        if login is not None:
            return login, password, token
        for place in (self._extra, session):
            key = self._text(place, "aws_access_key_id")
            secret = self._secret(place, "aws_secret_access_key")
            if key is not None and secret is not None:
                return key, secret, token
        if token is not None:
            raise self._wrong("aws_session_token: without login and password; set them, too")
        return None, None, None

    def _role(self) -> AssumedRole | None:
        arn = self._text(self._extra, "role_arn")
        if arn is None:
            return None
        if not _ARN.fullmatch(arn):
            raise self._wrong(
                f"role_arn {arn[:80]!r}; expected arn:aws:iam::123456789012:role/name"
            )
        method = self._text(self._extra, "assume_role_method") or "assume_role"
        if method != "assume_role":
            raise self._wrong(
                f"assume_role_method {method[:60]!r}; this release supports assume_role. A web "
                "identity's file is found by boto3 itself: leave role_arn empty, and set "
                "AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE on the workers"
            )
        arguments = self._object(self._extra, "assume_role_kwargs")
        if unknown := sorted(set(arguments) - _ROLE_ARGUMENTS):
            names = ", ".join(repr(name[:40]) for name in unknown[:5])
            raise self._wrong(
                f"assume_role_kwargs has {names}; expected none but "
                f"{', '.join(sorted(_ROLE_ARGUMENTS))}"
            )
        external_id = self._text(self._extra, "external_id")
        given = {"ExternalId": external_id} if external_id else {}
        return AssumedRole(arn=arn, arguments={"RoleSessionName": _SESSION, **given, **arguments})

    def _region(self, config: Mapping[str, Any]) -> str | None:
        found = self._text(self._extra, "region_name") or self._text(config, "region_name")
        if found is not None and not _REGION.fullmatch(found):
            raise self._wrong(f"region_name {found[:60]!r}; expected a name such as eu-central-1")
        return found

    def _endpoints(self, allow_http: bool) -> Mapping[str, str]:
        services = self._object(self._extra, "service_config")
        found = {
            service: self._address(self._object(services, service), "endpoint_url", allow_http)
            for service in ("s3", "kms", "sts")
        }
        return {service: url for service, url in found.items() if url is not None}

    def _address(self, place: Mapping[str, Any], name: str, allow_http: bool) -> str | None:
        url = self._text(place, name)
        if url is None:
            return None
        expected = "expected https://host or https://host:port"
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise self._wrong(f"{name}: cannot be read; {expected}") from None
        # What stands before an @ may be a password, so such an address is not shown.
        if "@" in parts.netloc or not host or not _PRINTABLE.fullmatch(url):
            raise self._wrong(f"{name}: holds a user, or no host; {expected}")
        if parts.scheme not in ("https", "http") or parts.query or parts.fragment:
            raise self._wrong(f"{name} {url[:120]!r}; {expected}")
        if parts.scheme == "http" and not allow_http:
            raise self._wrong(
                f"{name} {url[:120]!r}: not encrypted, and what is sent would be readable on the "
                f"way; use https://, or set allow_http in {OURS} of its extra for a test"
            )
        return url

    def _ca(self) -> str | None:
        services = self._object(self._extra, "service_config")
        if False in (self._object(services, one).get("verify") for one in ("s3", "kms", "sts")):
            raise self._wrong(_UNTRUSTED)
        found = self._extra.get("verify")
        if found is None or found is True or found == "":
            return None
        text = str(found).strip()
        if text.lower() in _TRUE:
            return None
        if text.lower() in _FALSE:
            raise self._wrong(_UNTRUSTED)
        return text

    def _style(self, config: Mapping[str, Any]) -> str:
        found = self._text(self._object(config, "s3"), "addressing_style") or "auto"
        if found not in _STYLES:
            raise self._wrong(f"addressing_style {found[:60]!r}; expected {', '.join(_STYLES)}")
        return found

    def _proxies(self, config: Mapping[str, Any]) -> Mapping[str, str]:
        found = self._object(config, "proxies")
        if not all(isinstance(one, str) for one in found.values()):
            raise self._wrong("proxies: expected an object of scheme to address")
        return dict(found)

    def _days(self) -> int:
        found = self._ours.get("object_lock_days")
        if found is None or found == "":
            return 0
        text = str(found).strip()
        if not text.isdecimal() or not text.isascii() or not 1 <= int(text[:9]) <= _MAX_DAYS:
            raise self._wrong(f"object_lock_days: expected a whole number from 1 to {_MAX_DAYS}")
        return int(text)

    def _object(self, place: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        found = place.get(name)
        if found is None or found == "":
            return {}
        if not isinstance(found, Mapping):
            raise self._wrong(f"{name}: expected a JSON object")
        return found

    def _text(self, place: Mapping[str, Any], name: str) -> str | None:
        found = place.get(name)
        if found is None or found == "":
            return None
        if not isinstance(found, str):
            raise self._wrong(f"{name}: expected a text")
        return found.strip() or None

    def _secret(self, place: Mapping[str, Any], name: str) -> Secret | None:
        found = self._text(place, name)
        return None if found is None else Secret(found)

    def _flag(self, place: Mapping[str, Any], name: str) -> bool | None:
        found = place.get(name)
        if found is None or found == "":
            return None
        text = str(found).strip().lower()
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        raise self._wrong(f"{name}: expected true or false")

    def _seconds(self, place: Mapping[str, Any], name: str, default: float) -> float:
        found = place.get(name)
        if found is None or found == "":
            return default
        try:
            seconds = float(str(found))
        except ValueError:
            seconds = -1.0
        if not 0 < seconds <= _MAX_SECONDS:
            raise self._wrong(f"{name}: expected seconds, above 0 and at most {_MAX_SECONDS:.0f}")
        return seconds


_UNTRUSTED = (
    "verify is false, and any server would be trusted; give the path of its CA's certificates"
)
