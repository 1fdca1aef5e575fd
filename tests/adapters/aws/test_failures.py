"""Every public exception of botocore and boto3 has a home; none quotes what a service said."""

from __future__ import annotations

import inspect
import pickle

import boto3.exceptions
import botocore.exceptions
import pytest
from botocore.exceptions import ClientError

from airflow_secure_ml.adapters.aws.failures import (
    KMS,
    S3,
    VENDOR_ERRORS,
    Failure,
    Kind,
    asking,
    error_of,
    failure_of,
)
from airflow_secure_ml.errors import (
    ConfigurationError,
    IntegrityError,
    SecureMLError,
    ServiceRefusedError,
    ServiceUnavailableError,
)

CANARY = "canary-4711"
UNAVAILABLE, DAMAGED, WRONG = ServiceUnavailableError, IntegrityError, ConfigurationError
# Literal, so that a class that a new version brings is looked at by a person. What is not here
# tells of a request that could not be made: a setting, a credential that is not there.
HOMES = {
    "botocore.exceptions": {
        UNAVAILABLE: [
            "CapacityNotAvailableError",
            "ClientError",
            "ConnectTimeoutError",
            "ConnectionClosedError",
            "ConnectionError",
            "CredentialRetrievalError",
            "EndpointConnectionError",
            "EventStreamError",
            "HTTPClientError",
            "IncompleteReadError",
            "MetadataRetrievalError",
            "PaginationError",
            "ProxyConnectionError",
            "ReadTimeoutError",
            "ResponseStreamingError",
            "SSLError",
            "WaiterError",
        ],
        DAMAGED: ["ChecksumError", "FlexibleChecksumError"],
        WRONG: [
            "AliasConflictParameterError",
            "ApiVersionNotFoundError",
            "AwsChunkedWrapperError",
            "BaseEndpointResolverError",
            "BotoCoreError",
            "ConfigNotFound",
            "ConfigParseError",
            "DataNotFoundError",
            "EndpointProviderError",
            "EndpointResolutionError",
            "EndpointVariantError",
            "InfiniteLoopConfigError",
            "InvalidChecksumConfigError",
            "InvalidConfigError",
            "InvalidDNSNameError",
            "InvalidDefaultsMode",
            "InvalidEndpointConfigurationError",
            "InvalidEndpointDiscoveryConfigurationError",
            "InvalidExpressionError",
            "InvalidHostLabelError",
            "InvalidIMDSEndpointError",
            "InvalidIMDSEndpointModeError",
            "InvalidMaxRetryAttemptsError",
            "InvalidProxiesConfigError",
            "InvalidRegionError",
            "InvalidRetryConfigurationError",
            "InvalidRetryModeError",
            "InvalidS3AddressingStyleError",
            "InvalidS3UsEast1RegionalEndpointConfigError",
            "InvalidSTSRegionalEndpointsConfigError",
            "LoginAuthorizationCodeError",
            "LoginError",
            "LoginInsufficientPermissions",
            "LoginRefreshRequired",
            "LoginTokenLoadError",
            "MD5UnavailableError",
            "MissingDependencyException",
            "MissingParametersError",
            "MissingServiceIdError",
            "NoAuthTokenError",
            "NoCredentialsError",
            "NoRegionError",
            "OperationNotPageableError",
            "ParamValidationError",
            "PartialCredentialsError",
            "ProfileNotFound",
            "RangeError",
            "RefreshWithMFAUnsupportedError",
            "SSOError",
            "SSOTokenLoadError",
            "ServiceNotInRegionError",
            "StubAssertionError",
            "StubResponseError",
            "TokenRetrievalError",
            "UnStubbedResponseError",
            "UnauthorizedSSOTokenError",
            "UndefinedModelAttributeError",
            "UnknownClientMethodError",
            "UnknownCredentialError",
            "UnknownEndpointError",
            "UnknownEndpointResolutionBuiltInName",
            "UnknownFIPSEndpointError",
            "UnknownKeyError",
            "UnknownParameterError",
            "UnknownRegionError",
            "UnknownServiceError",
            "UnknownServiceStyle",
            "UnknownSignatureVersionError",
            "UnknownTokenProviderError",
            "UnseekableStreamError",
            "UnsupportedOutpostResourceError",
            "UnsupportedS3AccesspointConfigurationError",
            "UnsupportedS3ArnError",
            "UnsupportedS3ConfigurationError",
            "UnsupportedS3ControlArnError",
            "UnsupportedS3ControlConfigurationError",
            "UnsupportedServiceProtocolsError",
            "UnsupportedSignatureVersionError",
            "ValidationError",
            "WaiterConfigError",
        ],
    },
    "boto3.exceptions": {
        UNAVAILABLE: ["RetriesExceededError", "S3TransferFailedError", "S3UploadFailedError"],
        WRONG: [
            "Boto3Error",
            "DynamoDBNeedsConditionError",
            "DynamoDBNeedsKeyConditionError",
            "DynamoDBOperationNotSupportedError",
            "DynanmoDBOperationNotSupportedError",
            "InvalidCrtTransferConfigError",
            "NoVersionFound",
            "ResourceLoadException",
            "ResourceNotExistsError",
            "UnknownAPIVersionError",
        ],
    },
}
MODULES = (botocore.exceptions, boto3.exceptions)


def vendor_errors(module):
    return {
        name: cls
        for name, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, Exception)
        and not issubclass(cls, Warning)
        and cls.__module__ == module.__name__
    }


def of_answer(code, status, operation="GetObject"):
    told = {
        "Error": {"Code": code, "Message": CANARY, "AWSAccessKeyId": CANARY},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(told, operation)


def raised_by(error, *, service=S3):
    with pytest.raises(SecureMLError) as raised, asking(service, "read s3://bucket/key"):
        raise error
    return raised.value


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_public_exception_is_known(module):
    known = [name for names in HOMES[module.__name__].values() for name in names]

    assert sorted(known) == sorted(vendor_errors(module))


CASES = [
    pytest.param(vendor_errors(module)[name], home, id=name)
    for module in MODULES
    for home, names in HOMES[module.__name__].items()
    for name in names
]


@pytest.mark.parametrize(("cls", "home"), CASES)
def test_it_comes_out_as_ours_and_quotes_nothing(cls, home):
    error = cls.__new__(cls)
    error.args = (CANARY,)
    error.__dict__.update(kwargs={"error": CANARY}, response={"Error": {"Message": CANARY}})

    ours = raised_by(error)

    assert type(ours) is home
    assert "read s3://bucket/key" in str(ours)
    assert CANARY not in str(ours) + repr(ours.__cause__)
    assert ours.__suppress_context__
    assert isinstance(error, VENDOR_ERRORS)


@pytest.mark.parametrize(
    ("code", "status", "kind", "home", "told"),
    [
        ("AccessDenied", 403, Kind.REFUSED, ServiceRefusedError, "policy"),
        ("InvalidAccessKeyId", 403, Kind.REFUSED, ServiceRefusedError, "check its login"),
        ("SignatureDoesNotMatch", 403, Kind.REFUSED, ServiceRefusedError, "check its password"),
        ("ExpiredToken", 400, Kind.EXPIRED, ServiceRefusedError, "renew the connection's"),
        ("ExpiredTokenException", 400, Kind.EXPIRED, ServiceRefusedError, "role_arn"),
        ("SlowDown", 503, Kind.BUSY, UNAVAILABLE, "try again later"),
        ("ServiceUnavailable", 503, Kind.BUSY, UNAVAILABLE, "try again"),
        ("ThrottlingException", 400, Kind.BUSY, UNAVAILABLE, "try again"),
        ("BadDigest", 400, Kind.BUSY, UNAVAILABLE, "nothing was done"),
        ("ConditionalRequestConflict", 409, Kind.BUSY, UNAVAILABLE, "nothing was done"),
        ("InternalError", 500, Kind.LOST, UNAVAILABLE, "InternalError"),
        ("", 502, Kind.LOST, UNAVAILABLE, "status 502"),
        ("", 429, Kind.BUSY, UNAVAILABLE, "status 429"),
        ("NoSuchKey", 404, Kind.NOTHING, ServiceRefusedError, "check the address"),
        ("404", 404, Kind.NOTHING, ServiceRefusedError, "check the address"),
        ("PreconditionFailed", 412, Kind.CHANGED, IntegrityError, "somebody else"),
        ("NoSuchBucket", 404, Kind.WRONG, WRONG, "make the bucket"),
        ("PermanentRedirect", 301, Kind.WRONG, WRONG, "region_name"),
        (CANARY + "\n<b>", 400, Kind.REFUSED, ServiceRefusedError, "status 400"),
        ("MethodNotAllowed", 405, Kind.REFUSED, ServiceRefusedError, "MethodNotAllowed"),
    ],
)
def test_an_answer_is_told_by_its_code(code, status, kind, home, told):
    error = of_answer(code, status)

    ours = raised_by(error)

    assert (failure_of(error).kind, failure_of(error).status) == (kind, status)
    assert type(ours) is home
    assert told in str(ours)
    assert CANARY not in str(ours)


def test_a_refusal_of_the_store_and_one_of_a_key_are_told_apart():
    answer = of_answer("AccessDenied", 403)

    assert raised_by(answer).why == "store_refused"
    assert raised_by(answer, service=KMS).why == "key_not_allowed"


@pytest.mark.parametrize(
    ("text", "home"),
    [
        ("certificate verify failed: unable to get local issuer certificate", WRONG),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed", WRONG),
        ("hostname 'a' doesn't match 'b'", WRONG),
        ("EOF occurred in violation of protocol", UNAVAILABLE),
    ],
    ids=["issuer", "code", "name", "cut"],
)
def test_a_server_that_is_not_trusted_is_told_from_a_cut(text, home):
    error = botocore.exceptions.SSLError(endpoint_url=f"https://{CANARY}", error=text)

    ours = raised_by(error)

    assert type(ours) is home
    assert ("Set verify" in str(ours)) is (home is WRONG)
    assert CANARY not in str(ours)


def test_what_is_below_botocore_is_a_lost_answer():
    ours = error_of(OSError(CANARY), service=S3, action="read it")

    assert type(ours) is UNAVAILABLE
    assert CANARY not in str(ours)


def test_ours_passes_through():
    with pytest.raises(IntegrityError, match="ours"), asking(S3, "read it"):
        raise IntegrityError("ours")


def test_it_can_be_pickled_with_what_it_says():
    ours = pickle.loads(pickle.dumps(raised_by(of_answer("AccessDenied", 403))))

    assert (ours.service, ours.action, ours.reason) == (S3, "read s3://bucket/key", "AccessDenied")
    assert Failure(kind=Kind.REFUSED, reason="AccessDenied", status=403) == failure_of(
        of_answer("AccessDenied", 403)
    )
