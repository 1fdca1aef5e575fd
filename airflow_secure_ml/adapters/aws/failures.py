"""What went wrong between us and AWS, told from botocore's and boto3's exceptions.

A service's own words are never passed on, since they quote requests, key ids and tokens: a reason
is a code, or a class's name. No exception of a vendor leaves `adapters.aws`.

Source: Amazon S3 API Reference, "Error responses"; AWS, "Common error codes".
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from boto3 import exceptions as boto3_exceptions
from botocore import exceptions as botocore_exceptions

from airflow_secure_ml.errors import (
    ConfigurationError,
    IntegrityError,
    SecureMLError,
    ServiceRefusedError,
    ServiceUnavailableError,
)

S3, KMS, STS = "s3", "aws kms", "aws sts"

_CODE = re.compile(r"[A-Za-z0-9.:_-]{1,80}", re.ASCII)
_DISTRUST = re.compile(r"certificate.verify.failed|doesn't match|hostname mismatch", re.IGNORECASE)


class Kind(enum.Enum):
    """What it means, and what may be done about it."""

    REFUSED = "it said no; asking again does not help"
    EXPIRED = "the credentials were good, and are no longer"
    NOTHING = "there is no such object, version or upload"
    CHANGED = "what is there is not what the request was for"
    BUSY = "it said that it did nothing; asking again may help"
    LOST = "no whole answer came; whether anything was done is not known"
    DAMAGED = "what came is not what was stored"
    UNTRUSTED = "no trust between the two ends; nothing was done"
    WRONG = "the request could not be made as this deployment is"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failed request.

    Attributes:
        kind: What it means.
        reason: The service's code, or the name of botocore's class.
        status: Of the HTTP answer; 0: there was none.
    """

    kind: Kind
    reason: str
    status: int = 0

    def as_error(self, *, service: str, action: str) -> SecureMLError:
        """The error to raise once nothing more is tried.

        Args:
            service: Which one, such as `S3` of this module.
            action: What it was asked to do, such as `read s3://bucket/key`.
        """
        told = f"{service} did not {action}: {self.reason}"
        if self.kind in (Kind.UNTRUSTED, Kind.WRONG):
            return ConfigurationError(f"{told}; {_remedy(self)}")
        if self.kind in (Kind.CHANGED, Kind.DAMAGED):
            return IntegrityError(f"{told}; {_remedy(self)}")
        if self.kind in (Kind.BUSY, Kind.LOST):
            cls: type[ServiceUnavailableError | ServiceRefusedError] = ServiceUnavailableError
            why = None
        else:
            cls, why = ServiceRefusedError, "store_refused" if service == S3 else None
        return cls(
            f"{told}; {_remedy(self)}", service=service, action=action, reason=self.reason, why=why
        )


def failure_of(error: Exception) -> Failure:
    """Classify an exception of botocore or boto3, or one of the network below them."""
    if isinstance(error, botocore_exceptions.ClientError):
        return _of_answer(error)
    name = type(error).__name__
    if isinstance(error, botocore_exceptions.SSLError):
        is_distrust = _DISTRUST.search(str(error))
        return Failure(kind=Kind.UNTRUSTED if is_distrust else Kind.LOST, reason=name)
    for kind, classes in _CLASSES.items():
        if isinstance(error, classes):
            return Failure(kind=kind, reason=name)
    if isinstance(error, VENDOR_ERRORS):
        return Failure(kind=Kind.WRONG, reason=name)
    # What is below botocore: a connection that ended in the middle of an answer.
    return Failure(kind=Kind.LOST, reason=name)


def error_of(error: Exception, *, service: str, action: str) -> SecureMLError:
    """Ours for an exception of a vendor; arguments as in `Failure.as_error`."""
    return failure_of(error).as_error(service=service, action=action)


@contextmanager
def asking(service: str, action: str) -> Iterator[None]:
    """Turn a vendor's exceptions inside the block into ours.

    Args:
        service: Which one, such as `S3` of this module.
        action: What it is asked to do, such as `read s3://bucket/key`.

    Raises:
        ServiceError: It refused, or did not answer.
        ConfigurationError: It could not be asked, or is not trusted.
        IntegrityError: What is there is not what was asked for, or what came was altered.
    """
    try:
        yield
    except VENDOR_ERRORS as error:
        # Its name alone: a vendor's text may quote a token.
        raise error_of(error, service=service, action=action) from RuntimeError(
            type(error).__name__
        )


VENDOR_ERRORS = (
    botocore_exceptions.BotoCoreError,
    botocore_exceptions.ClientError,
    botocore_exceptions.UndefinedModelAttributeError,
    boto3_exceptions.Boto3Error,
)
"""What `asking` turns into ours; what urllib3 raises below them is botocore's by then."""

_CLASSES: dict[Kind, tuple[type[Exception], ...]] = {
    Kind.DAMAGED: (
        botocore_exceptions.ChecksumError,
        botocore_exceptions.FlexibleChecksumError,
    ),
    Kind.BUSY: (
        botocore_exceptions.EndpointConnectionError,
        botocore_exceptions.ConnectTimeoutError,
        botocore_exceptions.ProxyConnectionError,
        botocore_exceptions.CapacityNotAvailableError,
        botocore_exceptions.CredentialRetrievalError,
        botocore_exceptions.MetadataRetrievalError,
    ),
    Kind.LOST: (
        botocore_exceptions.ConnectionError,
        botocore_exceptions.HTTPClientError,
        botocore_exceptions.IncompleteReadError,
        botocore_exceptions.PaginationError,
        botocore_exceptions.WaiterError,
        boto3_exceptions.RetriesExceededError,
        boto3_exceptions.S3TransferFailedError,
        boto3_exceptions.S3UploadFailedError,
    ),
}
_CODES: dict[Kind, list[str]] = {
    Kind.EXPIRED: ["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"],
    Kind.NOTHING: ["NoSuchKey", "NoSuchVersion", "NoSuchUpload", "NotFound"],
    Kind.CHANGED: ["PreconditionFailed"],
    Kind.WRONG: [
        "NoSuchBucket",
        "InvalidBucketName",
        "PermanentRedirect",
        "TemporaryRedirect",
        "IncorrectEndpoint",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
    ],
    # Many with a 4xx status, which would else be a no. The last line's: what arrived was compared
    # with what was announced, and not kept.
    Kind.BUSY: [
        "SlowDown",
        "Busy",
        "ServiceUnavailable",
        "RequestTimeout",
        "RequestTimeoutException",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ConditionalRequestConflict",
        "OperationAborted",
        "KMSInternalException",
        "DependencyTimeoutException",
        "KeyUnavailableException",
        "BadDigest",
        "XAmzContentSHA256Mismatch",
        "IncompleteBody",
    ],
}
# An answer to HEAD has no body, so its code is the status.
_STATUSES = {404: Kind.NOTHING, 412: Kind.CHANGED, 429: Kind.BUSY, 503: Kind.BUSY}
_UNKNOWN = "no known answer"
_REMEDIES = {
    "AccessDenied": "the identity's policy, and the bucket's or key's, must allow exactly this",
    "AccessDeniedException": "the identity's policy and the key's must allow exactly this",
    "InvalidAccessKeyId": "the connection's access key is unknown there; check its login",
    "SignatureDoesNotMatch": "the connection's secret key is wrong; check its password",
    "RequestTimeTooSkewed": "set the clock of this machine",
    "NoSuchBucket": "make the bucket, or correct the address",
    "NoCredentialsError": (
        "no AWS credentials; give the connection login and password, a profile_name or a "
        "role_arn, or have them where boto3 looks (environment, ~/.aws, the machine's role)"
    ),
    "NoRegionError": "set region_name in the connection's extra",
}
_KIND_REMEDIES = {
    Kind.REFUSED: "look at the request, and at what the connection's identity may do",
    Kind.EXPIRED: (
        "renew the connection's aws_session_token, or give it a role_arn, which is renewed by "
        "itself"
    ),
    Kind.NOTHING: "check the address; it may have been removed meanwhile",
    Kind.CHANGED: "somebody else wrote it meanwhile; nothing was done",
    Kind.BUSY: "nothing was done; try again later",
    Kind.LOST: "try again when it answers",
    Kind.DAMAGED: "the bytes that came differ from those that were stored; they were not used",
    Kind.UNTRUSTED: (
        "its certificate was not issued by a certificate authority that this connection trusts, "
        "or is not for this name; nothing was sent. Set verify in the connection's extra to the "
        "path of the CA's certificates"
    ),
    Kind.WRONG: "check the connection: credentials, profile_name, region_name, endpoint_url",
}


def _of_answer(error: botocore_exceptions.ClientError) -> Failure:
    answer = getattr(error, "response", None)
    answer = answer if isinstance(answer, dict) else {}
    code = str(answer.get("Error", {}).get("Code") or "")
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    status = status if isinstance(status, int) else 0
    reason = code if _CODE.fullmatch(code) else f"status {status}" if status else _UNKNOWN
    return Failure(kind=_kind_of(reason, status), reason=reason, status=status)


def _kind_of(code: str, status: int) -> Kind:
    for kind, codes in _CODES.items():
        if code in codes:
            return kind
    if status in _STATUSES:
        return _STATUSES[status]
    # It may have begun: a gateway says so when the server behind it stopped answering.
    lost = code == "InternalError" or status >= 500 or code == _UNKNOWN
    return Kind.LOST if lost else Kind.REFUSED


def _remedy(failure: Failure) -> str:
    return _REMEDIES.get(failure.reason) or _KIND_REMEDIES[failure.kind]
