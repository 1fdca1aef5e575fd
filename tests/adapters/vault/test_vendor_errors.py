"""Every public exception of hvac, requests and botocore has a home; none leaves its adapter."""

from __future__ import annotations

import inspect

import hvac.exceptions
import pytest
import requests.exceptions

from airflow_secure_ml.adapters.vault.client import VaultClient
from airflow_secure_ml.adapters.vault.failures import failure_of
from airflow_secure_ml.adapters.vault.server import VaultServer
from airflow_secure_ml.adapters.vault.token import Token
from airflow_secure_ml.core.secret import Secret
from airflow_secure_ml.errors import (
    ConfigurationError,
    SecureMLError,
    ServiceRefusedError,
    ServiceUnavailableError,
)
from tests.adapters.vault.client_place import FakeTime

CANARY = "canary-4711"
REFUSED, UNAVAILABLE, WRONG = ServiceRefusedError, ServiceUnavailableError, ConfigurationError
# Literal, so that a class that a new version brings is looked at by a person.
HOMES = {
    "hvac.exceptions": {
        "BadGateway": UNAVAILABLE,
        "Forbidden": REFUSED,
        "InternalServerError": UNAVAILABLE,
        "InvalidPath": REFUSED,
        "InvalidRequest": REFUSED,
        "ParamValidationError": REFUSED,
        "PreconditionFailed": UNAVAILABLE,
        "RateLimitExceeded": UNAVAILABLE,
        "Unauthorized": REFUSED,
        "UnexpectedError": UNAVAILABLE,
        "UnsupportedOperation": REFUSED,
        "VaultDown": UNAVAILABLE,
        "VaultError": UNAVAILABLE,
        "VaultNotInitialized": UNAVAILABLE,
    },
    "requests.exceptions": {
        "BaseHTTPError": UNAVAILABLE,
        "ChunkedEncodingError": UNAVAILABLE,
        "ConnectTimeout": UNAVAILABLE,
        "ConnectionError": UNAVAILABLE,
        "ContentDecodingError": UNAVAILABLE,
        "HTTPError": UNAVAILABLE,
        "InvalidHeader": REFUSED,
        "InvalidJSONError": UNAVAILABLE,
        "InvalidProxyURL": REFUSED,
        "InvalidSchema": REFUSED,
        "InvalidURL": REFUSED,
        "JSONDecodeError": UNAVAILABLE,
        "MissingSchema": REFUSED,
        "ProxyError": UNAVAILABLE,
        "ReadTimeout": UNAVAILABLE,
        "RequestException": UNAVAILABLE,
        "RetryError": UNAVAILABLE,
        "SSLError": UNAVAILABLE,
        "StreamConsumedError": UNAVAILABLE,
        "Timeout": UNAVAILABLE,
        "TooManyRedirects": UNAVAILABLE,
        "URLRequired": UNAVAILABLE,
        "UnrewindableBodyError": UNAVAILABLE,
    },
}


def vendor_errors(module):
    return {
        name: cls
        for name, cls in inspect.getmembers(module, inspect.isclass)
        if issubclass(cls, Exception) and not issubclass(cls, Warning)
    }


def test_every_public_exception_is_known():
    ours = {"CompatJSONDecodeError"}

    for module in (hvac.exceptions, requests.exceptions):
        assert set(vendor_errors(module)) - ours == set(HOMES[module.__name__])


CASES = [
    pytest.param(vendor_errors(module)[name], home, id=name)
    for module in (hvac.exceptions, requests.exceptions)
    for name, home in HOMES[module.__name__].items()
]


class Given:
    def log_in(self, ask):
        return Token(value=Secret("token"))


@pytest.mark.parametrize(("cls", "home"), CASES)
def test_it_comes_out_as_ours_and_quotes_nothing(cls, home):
    time = FakeTime()
    client = VaultClient(
        VaultServer(url="https://127.0.0.1:1"), Given(), clock=time.clock, sleep=time.sleep
    )
    error = cls.__new__(cls)
    error.args = (CANARY,)
    error.__dict__.update(errors=[CANARY], text=CANARY, method="get", url=CANARY, json=None)

    def ask(vault):
        raise error

    with pytest.raises(SecureMLError) as raised:
        client.call("read x", ask)

    assert type(raised.value) is home
    assert CANARY not in str(raised.value) + repr(raised.value.__cause__)
    assert raised.value.__context__ in (None, raised.value.__cause__)


def test_it_is_not_sent_again_where_it_may_have_been_done():
    lost = requests.exceptions.ReadTimeout(), hvac.exceptions.BadGateway("x")
    time = FakeTime()
    client = VaultClient(
        VaultServer(url="https://127.0.0.1:1"), Given(), clock=time.clock, sleep=time.sleep
    )
    asked = []

    for error in lost:

        def ask(vault, error=error):
            asked.append(error)
            raise error

        with pytest.raises(ServiceUnavailableError):
            client.call("make x", ask, repeatable=False)

    assert (asked, time.waits) == (list(lost), [])


def test_botocores_errors_are_ours():
    import botocore.exceptions

    from airflow_secure_ml.adapters.vault.aws_login import of_aws

    found = [
        cls
        for cls in vendor_errors(botocore.exceptions).values()
        if issubclass(cls, (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError))
    ]

    homes = set()
    for cls in found:
        error = cls.__new__(cls)
        error.args = (CANARY,)
        ours = of_aws(error)
        assert CANARY not in str(ours)
        homes.add(type(ours))

    assert len(found) > 60
    assert homes == {ConfigurationError, ServiceUnavailableError}


@pytest.mark.parametrize(
    ("code", "home"),
    [("AccessDenied", ServiceRefusedError), ("Throttling", ServiceUnavailableError)],
)
def test_what_aws_answers_is_told_by_its_code(code, home):
    import botocore.exceptions

    from airflow_secure_ml.adapters.vault.aws_login import of_aws

    said = {"Error": {"Code": code, "Message": CANARY}}

    ours = of_aws(botocore.exceptions.ClientError(said, "AssumeRole"))

    assert type(ours) is home
    assert code in str(ours)
    assert CANARY not in str(ours)


@pytest.mark.parametrize("name", ["HTTPClientError", "EndpointConnectionError", "NoRegionError"])
def test_botocores_errors_as_it_makes_them_are_ours(name):
    import botocore.exceptions

    from airflow_secure_ml.adapters.vault.aws_login import of_aws

    error = getattr(botocore.exceptions, name)(error=CANARY, endpoint_url=CANARY)

    ours = of_aws(error)

    assert name in str(ours)
    assert CANARY not in str(ours)


def test_a_failure_is_found_for_anything_else():
    assert failure_of(ValueError(CANARY)).reason == "answer not readable"
