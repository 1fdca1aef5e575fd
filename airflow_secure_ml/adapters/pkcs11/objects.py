"""The objects of a token that are versions of a key, and whether they may be used.

A version is one object (of a key that signs: two) labelled `<name>/<number>`. What it may do stands
in its own attributes, so the token itself keeps to it. Only what a logged-in user made is believed:
anybody who reaches a token may put public objects there.

Source: PKCS#11 3.0, 4.9 and 4.10 (CKA_PRIVATE, CKA_SENSITIVE, CKA_EXTRACTABLE).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from airflow_secure_ml.adapters.pkcs11.failures import refusal
from airflow_secure_ml.core.ports import KeyVersion
from airflow_secure_ml.errors import ConfigurationError, PolicyError
from airflow_secure_ml.extras import import_extra

KEY_BITS = 256
# OID 1.3.101.112 (RFC 8410), and the name that PKCS#11 3.0 had first.
ED25519_PARAMS = bytes.fromhex("06032b6570")
ED25519_NAMED = b"\x13\x0cedwards25519"
PUBLIC_BYTES = 32
_NUMBER = r"[1-9][0-9]{0,8}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a key.

    Attributes:
        number: From 1.
        begins: Whether it may wrap, or sign.
        ends: Whether it may unwrap, or its signatures are accepted.
    """

    number: int
    begins: bool
    ends: bool

    def state(self, newest: int) -> str:
        """active, retired or disabled; what was removed is not seen any more."""
        if not self.ends:
            return "disabled"
        return "active" if self.begins and self.number == newest else "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKey:
    """A key as the token had it at one moment.

    Attributes:
        purpose: `wrap` or `sign`.
        versions: Oldest first; at least one.
    """

    purpose: str
    versions: tuple[Version, ...]

    @property
    def newest(self) -> Version:
        """The version with the highest number."""
        return self.versions[-1]

    def state(self, number: int) -> str | None:
        """The state of a version; None: there is none."""
        found = [each for each in self.versions if each.number == number]
        return found[0].state(self.newest.number) if found else None

    def as_versions(self) -> list[KeyVersion]:
        """As the port describes them, oldest first."""
        return [
            KeyVersion(number=each.number, state=each.state(self.newest.number), created=None)
            for each in self.versions
        ]


def read_key(session: Any, where: str, name: str) -> TokenKey:
    """Look a key up, with its versions.

    Raises:
        PolicyError: There is none of that name (key_missing).
        ConfigurationError: Two objects have one label.
    """
    classes, flags = _constants("ObjectClass"), _constants("Attribute")
    for purpose, cls, begin, end in (
        ("wrap", classes.SECRET_KEY, flags.ENCRYPT, flags.DECRYPT),
        ("sign", classes.PUBLIC_KEY, None, flags.VERIFY),
    ):
        found = _labelled(session, cls, where, name)
        if purpose == "sign":
            private = _labelled(session, classes.PRIVATE_KEY, where, name)
        if found:
            versions = [
                Version(
                    number=number,
                    begins=bool(thing[begin])
                    if begin
                    else number in private and bool(private[number][flags.SIGN]),
                    ends=bool(thing[end]),
                )
                for number, thing in sorted(found.items())
            ]
            return TokenKey(purpose=purpose, versions=tuple(versions))
    raise PolicyError(
        f"key {where}/{name}: expected objects labelled {name}/1 and so on in the token, found "
        f"none; check the name, or make it: `secure-ml keys create {name} --for wrap`, or sign",
        why="key_missing",
    )


def find_object(session: Any, cls: str, where: str, label: str) -> Any:
    """The one object of a class (`SECRET_KEY`, `PUBLIC_KEY`, `PRIVATE_KEY`) with a label.

    Raises:
        PolicyError: There is none (key_missing).
        ConfigurationError: Two.
    """
    wanted = {
        _constants("Attribute").CLASS: getattr(_constants("ObjectClass"), cls),
        _constants("Attribute").LABEL: label,
    }
    found = list(session.get_objects(wanted))
    if len(found) > 1:
        raise _twice(where, label)
    if not found:
        raise PolicyError(
            f"key {where}/{label}: expected it in the token, found none", why="key_missing"
        )
    return found[0]


def check_wraps(key: Any, where: str) -> None:
    """Return if file keys may be wrapped with an object, or were.

    Raises:
        ConfigurationError: It is none of AES-256 that stays in the token, made by its user.
    """
    flags, types = _constants("Attribute"), _constants("KeyType")
    kind = key[flags.KEY_TYPE]
    bits = 8 * key[flags.VALUE_LEN] if kind == types.AES else 0
    if kind != types.AES or bits != KEY_BITS:
        raise ConfigurationError(f"key {where}: expected AES-{KEY_BITS}, found another kind")
    _check_stays(key, where)


def check_signs(key: Any, where: str) -> None:
    """Return if an object signs as Ed25519; errors as in `check_wraps`."""
    _check_ed25519(key, where)
    _check_stays(key, where)


def public_bytes(key: Any, where: str) -> bytes:
    """The 32 bytes of an Ed25519 public key.

    Raises:
        ConfigurationError: Another kind, or somebody may have made it who is not the token's user.
    """
    flags = _constants("Attribute")
    _check_ed25519(key, where)
    if not key[flags.PRIVATE]:
        # Whoever reaches the token could have added it, and sign as this name.
        raise ConfigurationError(
            f"key {where}: expected a public key that only a logged-in user can have made "
            "(CKA_PRIVATE), found one that anybody can add; make it with `secure-ml keys create` "
            "or `keys rotate`"
        )
    point = bytes(key[flags.EC_POINT])
    # A DER octet string; some tokens give the bytes alone.
    raw = point[2:] if point[:2] == bytes((0x04, PUBLIC_BYTES)) else point
    if len(raw) != PUBLIC_BYTES:
        raise ConfigurationError(
            f"key {where}: expected {PUBLIC_BYTES} bytes of an Ed25519 public key, found {len(raw)}"
        )
    return raw


def make_key(session: Any, purpose: str, name: str, number: int, where: str) -> None:
    """Make a version of a key; it never leaves the token.

    Raises:
        ServiceRefusedError: Somebody else made the same version meanwhile; ours is gone again.
    """
    label = f"{name}/{number}"
    made = (_make_wrap if purpose == "wrap" else _make_sign)(session, label)
    cls = "SECRET_KEY" if purpose == "wrap" else "PRIVATE_KEY"
    try:
        find_object(session, cls, where, label)
    except ConfigurationError as error:
        for each in made:
            each.destroy()
        raise refusal(f"make {where}/{label}", "it was made by somebody else meanwhile") from error


def set_flags(session: Any, where: str, label: str, *, begins: bool, ends: bool) -> None:
    """Say what a version of a wrap key may do from now on; the token keeps to it."""
    key = find_object(session, "SECRET_KEY", where, label)
    flags = _constants("Attribute")
    for flag, value in ((flags.ENCRYPT, begins), (flags.DECRYPT, ends)):
        if bool(key[flag]) != value:
            key[flag] = value


def _make_wrap(session: Any, label: str) -> list[Any]:
    pkcs11 = import_extra("pkcs11", extra="pkcs11")
    flags, can = pkcs11.Attribute, pkcs11.MechanismFlag
    key = session.generate_key(
        pkcs11.KeyType.AES,
        KEY_BITS,
        label=label,
        id=label.encode(),
        store=True,
        capabilities=can.ENCRYPT | can.DECRYPT,
        template={flags.SENSITIVE: True, flags.EXTRACTABLE: False, flags.PRIVATE: True},
    )
    return [key]


def _make_sign(session: Any, label: str) -> list[Any]:
    pkcs11 = import_extra("pkcs11", extra="pkcs11")
    flags, can = pkcs11.Attribute, pkcs11.MechanismFlag
    domain = session.create_domain_parameters(
        pkcs11.KeyType.EC_EDWARDS, {flags.EC_PARAMS: ED25519_PARAMS}, local=True
    )
    public, private = domain.generate_keypair(
        mechanism=pkcs11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
        label=label,
        id=label.encode(),
        store=True,
        capabilities=can.SIGN | can.VERIFY,
        public_template={flags.PRIVATE: True},
        private_template={flags.SENSITIVE: True, flags.EXTRACTABLE: False, flags.PRIVATE: True},
    )
    return [public, private]


def _labelled(session: Any, cls: Any, where: str, name: str) -> dict[int, Any]:
    flags = _constants("Attribute")
    pattern = re.compile(rf"{re.escape(name)}/({_NUMBER})")
    found: dict[int, Any] = {}
    for thing in list(session.get_objects({flags.CLASS: cls})):
        match = pattern.fullmatch(thing[flags.LABEL])
        if match is None:
            continue
        if int(match[1]) in found:
            raise _twice(where, match[0])
        found[int(match[1])] = thing
    return found


def _check_ed25519(key: Any, where: str) -> None:
    flags, types = _constants("Attribute"), _constants("KeyType")
    right = key[flags.KEY_TYPE] == types.EC_EDWARDS and bytes(key[flags.EC_PARAMS]) in (
        ED25519_PARAMS,
        ED25519_NAMED,
    )
    if not right:
        raise ConfigurationError(f"key {where}: expected Ed25519, found another kind")


def _check_stays(key: Any, where: str) -> None:
    flags = _constants("Attribute")
    stays = key[flags.SENSITIVE] and not key[flags.EXTRACTABLE]
    if not (stays and key[flags.PRIVATE]):
        raise ConfigurationError(
            f"key {where}: expected a key that stays in the token and that only its user can have "
            "made (CKA_SENSITIVE and CKA_PRIVATE, not CKA_EXTRACTABLE), found another; make it "
            "with `secure-ml keys create` or `keys rotate`"
        )


def _twice(where: str, label: str) -> ConfigurationError:
    return ConfigurationError(
        f"key {where}/{label}: expected one object of that label, found two; which of them was "
        "meant cannot be told. Remove the one that nobody uses"
    )


def _constants(name: str) -> Any:
    return getattr(import_extra("pkcs11", extra="pkcs11"), name)
