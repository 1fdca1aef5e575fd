"""Keys in AWS KMS, over moto: what is asked of KMS, and what answers are refused.

moto takes disabled keys, and knows no Ed25519 key, no policy and no grant; where KMS itself must
say no, its answer is given by botocore's stubber.
"""

from __future__ import annotations

import base64
import pickle
from datetime import UTC, datetime

import moto
import pytest
from botocore.stub import ANY, Stubber
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from airflow_secure_ml.adapters.aws.kms_keys import SILENT_S
from airflow_secure_ml.adapters.aws.kms_rotation import SETTLE_S
from airflow_secure_ml.core.sealed_file.slots import Slot, check_slot
from airflow_secure_ml.errors import (
    CiphertextError,
    ConfigurationError,
    PolicyError,
    ServiceRefusedError,
    ServiceUnavailableError,
    SignatureError,
)
from tests.servers.kms_place import REGION, KmsPlace

FILE_KEY, CORE_ID, OTHER_ID = bytes(range(32)), b"c" * 32, b"d" * 32
FOREIGN = f"arn:aws:kms:{REGION}:999999999999:key/12345678-1234-1234-1234-123456789012"
ARN = f"arn:aws:kms:{REGION}:123456789012:key/12345678-1234-1234-1234-123456789012"
CONTEXT = {"asml-core": CORE_ID.hex()}


@pytest.fixture(scope="module")
def kms():
    with moto.mock_aws():
        yield KmsPlace()


@pytest.fixture
def place(kms):
    kms.empty()
    return kms


@pytest.fixture
def stubbed(place):
    with Stubber(place.kms) as stub:
        yield stub


def test_a_slot_names_the_key_and_not_its_alias(place):
    arn = place.make()
    wrapper = place.keys().wrapper("data")

    body = wrapper.wrap(FILE_KEY, CORE_ID)

    assert (wrapper.slot_type, wrapper.slot_id, str(wrapper.ref)) == (4, arn, "data/1")
    check_slot(Slot(type=4, id=arn, body=body))
    assert bytes(wrapper.unwrap(body, CORE_ID)) == FILE_KEY


def test_kms_is_told_the_key_and_exactly_one_pair_of_context(place):
    arn = place.make()
    wrapper = place.keys({"data": arn}).unwrappers(["data"])[0]

    wrapper.unwrap(wrapper.wrap(FILE_KEY, CORE_ID), CORE_ID)

    (first, wrap), (second, unwrap) = place.asked
    assert (first, second) == ("Encrypt", "Decrypt")
    for asked in (wrap, unwrap):
        assert asked["KeyId"] == arn
        assert asked["EncryptionContext"] == CONTEXT
        assert asked["EncryptionAlgorithm"] == "SYMMETRIC_DEFAULT"


def test_another_files_body_is_refused(place):
    place.make()
    wrapper = place.keys().wrapper("data")
    body = wrapper.wrap(FILE_KEY, CORE_ID)

    for given, core_id in ((body, OTHER_ID), (body[:-1] + bytes([body[-1] ^ 1]), CORE_ID)):
        with pytest.raises(CiphertextError, match="not wrapped by this key"):
            wrapper.unwrap(given, core_id)


def test_a_slot_of_another_account_makes_nobody_ask_for_its_key(place):
    place.make()
    keys = place.keys()

    found = [each for each in keys.unwrappers() if each.slot_id == FOREIGN]

    assert found == []
    assert keys.state_of(4, FOREIGN) is None
    assert keys.version_in("data", Slot(type=4, id=FOREIGN, body=b"x")) is None
    asked = {str(params.get("KeyId")) for _, params in place.asked}
    assert asked == {"alias/data", "alias/data/1"}


def test_with_an_arn_in_the_settings_nobody_is_asked_before_a_slot_fits(place):
    keys = place.keys({"data": ARN})

    assert [each.slot_id for each in keys.unwrappers()] == [ARN]
    assert keys.state_of(4, FOREIGN) is None
    assert keys.version_in("data", Slot(type=4, id=ARN, body=b"x")) == 1
    assert place.asked == []


@pytest.mark.parametrize("found", [FOREIGN, "alias/data", ARN.upper()])
def test_an_answer_of_another_key_is_refused(place, stubbed, found):
    wrapper = place.keys({"data": ARN}).unwrappers()[0]
    decrypt = {"KeyId": found, "Plaintext": FILE_KEY}
    encrypt = {"KeyId": found, "CiphertextBlob": b"x" * 100}
    stubbed.add_response("decrypt", decrypt, _expected(CiphertextBlob=b"body"))
    stubbed.add_response("encrypt", encrypt, _expected(Plaintext=FILE_KEY))

    for ask in (lambda: wrapper.unwrap(b"body", CORE_ID), lambda: wrapper.wrap(FILE_KEY, CORE_ID)):
        with pytest.raises(ServiceRefusedError, match="another key answered"):
            ask()


@pytest.mark.parametrize("asked", [ARN, ARN.rpartition("/")[2]], ids=["arn", "id"])
def test_a_description_of_another_key_is_refused(place, stubbed, asked):
    other = {"Arn": FOREIGN.replace("key/1", "key/9"), "KeyId": "k", "KeyState": "Enabled"}
    kind = {"KeySpec": "SYMMETRIC_DEFAULT", "KeyUsage": "ENCRYPT_DECRYPT"}
    stubbed.add_response("describe_key", {"KeyMetadata": other | kind}, {"KeyId": asked})

    with pytest.raises(ServiceRefusedError, match="another key answered"):
        place.keys({"data": asked}).wrapper("data")


def _expected(**more):
    algorithm = {"EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}
    return {"KeyId": ARN, "EncryptionContext": CONTEXT} | algorithm | more


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_file_key_of_another_length_is_refused_both_ways(place, stubbed, size):
    wrapper = place.keys({"data": ARN}).unwrappers()[0]
    stubbed.add_response("decrypt", {"KeyId": ARN, "Plaintext": bytes(size or 64)})

    with pytest.raises(CiphertextError, match="expected a file key of 32"):
        wrapper.unwrap(b"body", CORE_ID)
    with pytest.raises(ConfigurationError, match="32 bytes"):
        wrapper.wrap(bytes(size), CORE_ID)


@pytest.mark.parametrize(
    ("code", "error", "why"),
    [
        ("InvalidCiphertextException", CiphertextError, "digest_differs"),
        ("IncorrectKeyException", CiphertextError, "digest_differs"),
        ("DisabledException", PolicyError, "key_disabled"),
        ("NotFoundException", PolicyError, "key_missing"),
        ("InvalidKeyUsageException", PolicyError, "key_not_allowed"),
        ("AccessDeniedException", ServiceRefusedError, "key_not_allowed"),
        ("ExpiredTokenException", ServiceRefusedError, "key_not_allowed"),
        ("InvalidGrantTokenException", ServiceRefusedError, "key_not_allowed"),
    ],
)
def test_what_a_no_of_kms_means(place, stubbed, code, error, why):
    wrapper = place.keys({"data": ARN}).unwrappers()[0]
    stubbed.add_client_error("decrypt", code, "canary-4711", 400)

    with pytest.raises(error) as caught:
        wrapper.unwrap(b"body", CORE_ID)

    assert caught.value.why == why
    assert "canary" not in str(caught.value) + repr(caught.value.__cause__)


@pytest.mark.parametrize(
    ("state", "why"), [("PendingDeletion", "key_destroyed"), ("Unavailable", "key_disabled")]
)
def test_a_key_in_the_wrong_state_is_told_by_looking(place, stubbed, state, why):
    wrapper = place.keys({"data": ARN}).unwrappers()[0]
    stubbed.add_client_error("decrypt", "KMSInvalidStateException", "no", 400)
    stubbed.add_response("describe_key", {"KeyMetadata": {"KeyId": "k", "KeyState": state}})

    with pytest.raises(PolicyError) as caught:
        wrapper.unwrap(b"body", CORE_ID)

    assert caught.value.why == why


def test_throttling_is_waited_out_with_jitter_and_never_past_the_deadline(place):
    now, waited, tried = [0.0], [], []

    def pause(seconds):
        waited.append(seconds)
        now[0] += seconds

    client = place.client(
        deadline_s=10.0, clock=lambda: now[0], pause=pause, jitter=lambda low, high: high
    )
    from botocore.exceptions import ClientError

    def busy(operation, arguments):
        tried.append(operation)
        raise ClientError({"Error": {"Code": "ThrottlingException"}}, operation)

    client._answer = busy
    with pytest.raises(ServiceUnavailableError):
        client.ask("look", "DescribeKey", key="k", KeyId="k")

    assert waited == [0.2, 0.4, 0.8, 1.6, 3.2]
    assert len(tried) == 6
    assert sum(waited) < 10.0


def test_throttling_that_ends_is_no_failure(place, stubbed):
    wrapper = place.keys({"data": ARN}).unwrappers()[0]
    wrapper._client._pause = lambda seconds: None
    stubbed.add_client_error("decrypt", "ThrottlingException", "slow", 400)
    stubbed.add_client_error("decrypt", "KMSInternalException", "slow", 500)
    stubbed.add_response("decrypt", {"KeyId": ARN, "Plaintext": FILE_KEY})

    assert bytes(wrapper.unwrap(b"body", CORE_ID)) == FILE_KEY


def test_what_makes_something_is_not_asked_twice_where_no_answer_came(place, stubbed):
    stubbed.add_client_error("create_key", "InternalFailure", "lost", 500)

    with pytest.raises(ServiceUnavailableError):
        place.client().ask("make", "CreateKey", key="k", repeatable=False)

    stubbed.assert_no_pending_responses()


def test_a_grants_token_goes_along_where_kms_takes_one(place):
    arn = place.make()
    client = place.client(grant_token="AQpAM2RhZ")

    client.ask("look", "DescribeKey", key=arn, KeyId=arn)
    client.ask("off", "DisableKey", key=arn, KeyId=arn.rpartition("/")[2])

    assert place.asked[0][1]["GrantTokens"] == ["AQpAM2RhZ"]
    assert "GrantTokens" not in place.asked[1][1]


def test_a_rotation_makes_a_like_key_known_before_the_alias_leads_to_it(place):
    old = place.make(Tags=[{"TagKey": "team", "TagValue": "a"}])
    keys = place.keys()

    made = keys.rotate("data")

    new = keys.wrapper("data").slot_id
    asked = [name for name, _ in place.asked if name.startswith(("Create", "Update"))]
    assert str(made) == "data/2"
    assert asked == ["CreateAlias", "CreateKey", "CreateAlias", "UpdateAlias"]
    assert place.waited == [SETTLE_S]
    assert [each.slot_id for each in keys.unwrappers(["data"])] == [new, old]
    assert place.kms.list_resource_tags(KeyId=new)["Tags"] == [{"TagKey": "team", "TagValue": "a"}]
    policies = [place.kms.get_key_policy(KeyId=key, PolicyName="default") for key in (old, new)]
    assert policies[0]["Policy"] == policies[1]["Policy"]


def test_a_rotation_that_was_interrupted_goes_on_with_the_key_that_it_made(place):
    place.make()
    keys = place.keys()

    class Killed(BaseException):
        pass

    def die(seconds):
        raise Killed

    with pytest.raises(Killed):
        place.keys(pause=die).rotate("data")
    before = keys.versions("data")
    made = place.keys().rotate("data")

    assert [each.number for each in before] == [1]
    assert str(made) == "data/2"
    assert len(place.kms.list_keys()["Keys"]) == 2
    assert [each.number for each in place.keys().versions("data")] == [1, 2]


def test_readers_know_an_announced_key_before_it_wraps(place):
    old = place.make()
    place.kms.create_alias(AliasName="alias/data/1", TargetKeyId=old)
    new = place.make("data/2")
    keys = place.keys()

    assert keys.wrapper("data").slot_id == old
    assert [each.slot_id for each in keys.unwrappers()] == [new, old]
    assert [each.state for each in keys.versions("data")] == ["active"]


def test_a_name_that_is_one_key_has_nothing_to_rotate(place):
    arn = place.make(None)

    with pytest.raises(ConfigurationError, match="rotate-key-on-demand"):
        place.keys({"data": arn}).rotate("data")
    assert [name for name, _ in place.asked] == ["DescribeKey"]


def test_what_kms_did_not_make_is_not_copied(place):
    place.make(Origin="EXTERNAL")

    with pytest.raises(ConfigurationError, match="make the next one yourself"):
        place.keys().rotate("data")


def test_a_body_is_rewrapped_inside_its_key_for_its_own_file(place):
    arn = place.make()
    keys = place.keys()
    wrapper = keys.wrapper("data")
    body = wrapper.wrap(FILE_KEY, CORE_ID)
    place.kms.rotate_key_on_demand(KeyId=arn)
    place.asked.clear()

    new, other = keys.rewrap("data", [(body, CORE_ID), (body, OTHER_ID)])

    assert new != body
    assert bytes(wrapper.unwrap(new, CORE_ID)) == FILE_KEY
    assert isinstance(other, CiphertextError)
    name, asked = place.asked[0]
    assert (name, asked["SourceKeyId"], asked["DestinationKeyId"]) == ("ReEncrypt", arn, arn)
    assert asked["SourceEncryptionContext"] == asked["DestinationEncryptionContext"] == CONTEXT


def test_keys_below_are_disabled_and_the_rest_stays(place):
    place.make()
    keys = place.keys()
    for _ in range(2):
        keys.rotate("data")

    keys.retire_below("data", 3)

    assert [each.state for each in keys.versions("data")] == ["disabled", "disabled", "active"]
    states = [
        place.kms.describe_key(KeyId=f"alias/data/{n}")["KeyMetadata"]["KeyState"]
        for n in (1, 2, 3)
    ]
    assert states == ["Disabled", "Disabled", "Enabled"]


@pytest.mark.parametrize("change", ["disable", "delete"])
def test_a_key_that_does_nothing_does_not_wrap(place, change):
    arn = place.make()
    if change == "disable":
        place.kms.disable_key(KeyId=arn.rpartition("/")[2])
    else:
        place.kms.schedule_key_deletion(KeyId=arn.rpartition("/")[2], PendingWindowInDays=7)

    with pytest.raises(PolicyError) as caught:
        place.keys().wrapper("data")

    assert caught.value.why == {"disable": "key_disabled", "delete": "key_destroyed"}[change]
    assert place.keys().unwrappers() == []


@pytest.mark.parametrize("spec", ["RSA_2048", "ECC_NIST_P256", "HMAC_256"])
def test_a_key_of_another_kind_neither_wraps_nor_signs(place, spec):
    usage = {"HMAC_256": "GENERATE_VERIFY_MAC"}.get(spec, "SIGN_VERIFY")
    place.make(KeySpec=spec, KeyUsage=usage)

    for ask in (place.keys().wrapper, place.keys().signer):
        with pytest.raises(PolicyError) as caught:
            ask("data")
        assert caught.value.why == "key_not_allowed"


def test_without_kms_other_keys_still_open_and_who_asks_is_told(place, stubbed):
    keys = place.keys()
    for _ in range(2):
        stubbed.add_client_error("describe_key", "AccessDeniedException", "no", 400)

    assert keys.unwrappers() == []
    with pytest.raises(ServiceRefusedError):
        keys.state_of(4, ARN)


def test_a_silent_kms_is_not_waited_for_at_each_file_that_other_keys_open(place):
    now, asked = [100.0], []
    keys = place.keys(clock=lambda: now[0])

    def silent(*words, **arguments):
        asked.append(words)
        raise ServiceUnavailableError("no answer", service="aws kms", action="look", reason="x")

    keys._client.ask = silent
    for _ in range(5):
        assert keys.unwrappers() == []
    with pytest.raises(ServiceUnavailableError):
        keys.unwrappers(["data"])
    now[0] += SILENT_S
    keys.unwrappers()

    assert len(asked) == 3


def signing(place, stubbed, key, signature=None, answered=ARN):
    """A sign key as KMS' reference describes it; moto has none of Ed25519."""
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    metadata = {
        "KeyId": "k",
        "Arn": ARN,
        "KeyState": "Enabled",
        "KeySpec": "ECC_NIST_EDWARDS25519",
        "KeyUsage": "SIGN_VERIFY",
        "CreationDate": datetime(2026, 1, 1, tzinfo=UTC),
    }
    stubbed.add_response("describe_key", {"KeyMetadata": metadata}, {"KeyId": ARN})
    stubbed.add_response("get_public_key", {"KeyId": ARN, "PublicKey": spki}, {"KeyId": ARN})
    stubbed.add_response(
        "sign",
        {"KeyId": answered, "Signature": signature or key.sign(b"message")},
        {
            "KeyId": ARN,
            "Message": ANY,
            "MessageType": "RAW",
            "SigningAlgorithm": "ED25519_SHA_512",
        },
    )
    return place.keys({"pipeline": ARN}).signer("pipeline")


def test_a_signature_is_asked_for_raw_and_checked(place, stubbed):
    key = Ed25519PrivateKey.generate()

    signature = signing(place, stubbed, key).sign(b"message")

    key.public_key().verify(signature, b"message")


def test_a_signature_that_does_not_hold_or_is_another_keys_is_not_published(place, stubbed):
    key = Ed25519PrivateKey.generate()

    with pytest.raises(ServiceRefusedError, match="does not hold") as caught:
        signing(place, stubbed, key, bytes(64)).sign(b"message")
    assert isinstance(caught.value.__cause__, SignatureError)
    with pytest.raises(ServiceRefusedError, match="another key answered"):
        signing(place, stubbed, key, answered=FOREIGN).sign(b"message")


def test_a_key_is_found_by_its_public_half(place, stubbed):
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    keys = place.keys({"log": ARN})
    told = {"KeyId": "k", "Arn": ARN, "KeyState": "Enabled", "KeySpec": "ECC_NIST_EDWARDS25519"}
    told |= {"KeyUsage": "SIGN_VERIFY", "CreationDate": datetime(2026, 1, 1, tzinfo=UTC)}
    for _ in range(2):
        stubbed.add_response("describe_key", {"KeyMetadata": told}, {"KeyId": ARN})
        stubbed.add_response("get_public_key", {"KeyId": ARN, "PublicKey": spki}, {"KeyId": ARN})

    with pytest.raises(PolicyError, match="no version in use"):
        keys.signer_of("log", bytes(32))
    assert str(keys.signer_of("log", public).ref) == "log/1"


def test_a_message_that_kms_does_not_take_is_refused_before_it_is_sent(place, stubbed):
    signer = signing(place, stubbed, Ed25519PrivateKey.generate())

    with pytest.raises(ConfigurationError, match="AWS KMS takes 4096"):
        signer.sign(bytes(4097))


@pytest.mark.parametrize("name", ["a.b", "", "aws/s3", "a b", "x" * 250])
def test_a_name_that_is_no_alias_is_refused(place, name):
    with pytest.raises(ConfigurationError, match="no alias"):
        place.keys().wrapper(name)


def test_nothing_secret_is_shown_or_pickled(place, caplog):
    caplog.set_level(0)
    place.make()
    keys = place.keys()
    wrapper = keys.wrapper("data")
    wrapper.unwrap(wrapper.wrap(FILE_KEY, CORE_ID), CORE_ID)

    for secret in ("secret-4711", FILE_KEY.hex(), base64.b64encode(FILE_KEY).decode()):
        assert secret not in caplog.text + repr(keys) + repr(wrapper)
    with pytest.raises(TypeError):
        pickle.dumps(wrapper)
