"""Give an alias of KMS another key, in an order in which no file is ever without a key.

The new key gets its numbered alias first, and all readers find it there before the first writer
uses it. Interrupted in between, the next rotation goes on with that key.
"""

from __future__ import annotations

from collections.abc import Callable

from airflow_secure_ml.adapters.aws.kms_client import KmsClient
from airflow_secure_ml.adapters.aws.kms_key import KmsKey, KmsName
from airflow_secure_ml.errors import ConfigurationError, SecureMLError

# How long a process believes what it knows of a name. KMS itself decides at each wrap and unwrap.
KNOWN_S = 60.0
SETTLE_S = KNOWN_S + 5.0


def rotate_alias(
    client: KmsClient, alias: str, found: KmsName, pause: Callable[[float], None]
) -> int:
    """Make the next version of an alias, and lead the alias to it; returns its number.

    Args:
        client: Where the alias lies.
        alias: `alias/<name>`.
        found: Its keys, as they are now.
        pause: Waits some seconds.

    Raises:
        ConfigurationError: It is no alias, or another like its key cannot be made by us.
        SecureMLError: As `KmsClient.ask`; what was made is named, and not used.
    """
    if not alias.startswith("alias/"):
        raise ConfigurationError(
            f"key {alias}: a name that stands for one key has one version; make another key and "
            "name it, or name an alias (awskms://alias/<name>). What KMS rotates inside the key "
            "(`aws kms rotate-key-on-demand`) needs nothing here"
        )
    if len(found.keys) > found.current:
        number, target = len(found.keys), found.keys[-1].arn
    else:
        number, target = found.current + 1, _announce(client, alias, found)
    pause(SETTLE_S)
    client.ask(
        f"lead {alias} to {target}",
        "UpdateAlias",
        key=alias,
        AliasName=alias,
        TargetKeyId=target,
    )
    return number


def _announce(client: KmsClient, alias: str, found: KmsName) -> str:
    """Make the next key, and give it the alias of its number; returns its ARN."""
    old = found.newest
    if not old.copyable:
        raise ConfigurationError(
            f"key {old.arn}: expected one that KMS made for one region, found another (imported, "
            f"in another store, or of many regions); make the next one yourself, give it the "
            f"alias {alias}/{found.current + 1}, and lead {alias} to it after {SETTLE_S:.0f} s"
        )
    if found.numbered < found.current:
        _name(client, f"{alias}/{found.current}", old.arn)
    made = _make(client, old)
    number = found.current + 1
    try:
        _name(client, f"{alias}/{number}", made)
    except SecureMLError as error:
        error.args = (
            f"{error}; the key {made} was made and is not used: schedule its deletion, and look "
            f"whether somebody else rotates {alias}",
        )
        raise
    return made


def _make(client: KmsClient, old: KmsKey) -> str:
    arn = old.arn
    policy = client.ask(
        f"read the policy of {arn}", "GetKeyPolicy", key=arn, KeyId=arn, PolicyName="default"
    )
    tags = client.ask(f"read the tags of {arn}", "ListResourceTags", key=arn, KeyId=arn, Limit=50)
    # Not asked twice: each time would make another.
    made = client.ask(
        f"make a key like {arn}",
        "CreateKey",
        key=arn,
        repeatable=False,
        KeySpec=old.spec,
        KeyUsage=old.usage,
        Policy=policy["Policy"],
        Tags=tags.get("Tags", []),
        Description=f"airflow-secure-ml: follows {arn}",
    )
    return str(made["KeyMetadata"]["Arn"])


def _name(client: KmsClient, alias: str, arn: str) -> None:
    client.ask(
        f"name {arn} {alias}",
        "CreateAlias",
        key=alias,
        repeatable=False,
        AliasName=alias,
        TargetKeyId=arn,
    )
