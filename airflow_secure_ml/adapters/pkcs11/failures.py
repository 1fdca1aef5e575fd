"""What went wrong between us and a token, told from python-pkcs11's exceptions.

A module's own words are never passed on. No exception of a vendor leaves `adapters.pkcs11`.

Source: PKCS#11 3.0, 5.1 (return values).
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from airflow_secure_ml.errors import (
    ConfigurationError,
    SecureMLError,
    ServiceRefusedError,
    ServiceUnavailableError,
)

SERVICE = "pkcs11"
PIN_REFUSED, PIN_LOCKED, LAST_TRY = "PIN not accepted", "PIN locked", "one try of the PIN is left"


class Kind(enum.Enum):
    """What may be done about it."""

    STALE = "the session is gone; another may be opened"
    GONE = "the token is not there, or does not work"
    REFUSED = "it said no; asking again does not help"
    NOT_PERMITTED = "the key may not do this"
    ALTERED = "what was to be decrypted does not authenticate, or the token failed inside"
    WRONG = "this token cannot do what is asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failed call.

    Attributes:
        kind: What may be done about it.
        reason: In a few words of this module.
    """

    kind: Kind
    reason: str

    def as_error(self, action: str) -> SecureMLError:
        """The error to raise once nothing more is tried.

        Args:
            action: What the token was asked to do, such as `wrap with token/data/1`.
        """
        if self.kind is Kind.WRONG:
            return ConfigurationError(
                f"pkcs11: the token cannot {action}: {self.reason}; it needs AES-GCM to wrap and "
                "EdDSA with Ed25519 to sign"
            )
        if self.kind in (Kind.REFUSED, Kind.NOT_PERMITTED):
            return refusal(action, self.reason)
        return ServiceUnavailableError(
            f"pkcs11: the token did not {action}: {self.reason}; try again when it is there",
            service=SERVICE,
            action=action,
            reason=self.reason,
        )


def refusal(action: str, reason: str) -> ServiceRefusedError:
    """The error for a no.

    Args:
        action: What was asked.
        reason: In a few words.
    """
    remedy = _REMEDIES.get(reason, "look at the token's and the key's own settings")
    return ServiceRefusedError(
        f"pkcs11: the token refused to {action}: {reason}; {remedy}",
        service=SERVICE,
        action=action,
        reason=reason,
    )


_REMEDIES = {
    PIN_REFUSED: (
        "it is not tried again before the file of [secure_ml] pkcs11_pin_path changes, since "
        "tokens lock themselves after a few wrong ones"
    ),
    PIN_LOCKED: "whoever manages the token can set another PIN",
    LAST_TRY: (
        "it was not used, since the token would lock itself; log in once with the token's own tool"
    ),
}
# CKR_KEY_FUNCTION_NOT_PERMITTED and CKR_ACTION_PROHIBITED, for which python-pkcs11 has no class.
_PROHIBITED = re.compile(r"0x(?:68|1b)$", re.IGNORECASE)
_STALE = frozenset(
    {
        "SessionHandleInvalid",
        "SessionClosed",
        "KeyHandleInvalid",
        "ObjectHandleInvalid",
        "UserNotLoggedIn",
        "OperationActive",
        "OperationNotInitialized",
        "SessionCount",
    }
)
_REFUSED = {
    "PinIncorrect": PIN_REFUSED,
    "PinInvalid": PIN_REFUSED,
    "PinLenRange": PIN_REFUSED,
    "PinTooWeak": PIN_REFUSED,
    "PinLocked": PIN_LOCKED,
    "PinExpired": "PIN expired",
    "UserPinNotInitialized": "no PIN was set",
    "AnotherUserAlreadyLoggedIn": "another user is logged in",
    "UserTooManyTypes": "another user is logged in",
    "AttributeReadOnly": "the key's attributes cannot be changed",
    "AttributeSensitive": "an attribute is not shown",
    "TokenWriteProtected": "the token is write-protected",
    "SessionReadOnly": "the session may only read",
    "SessionReadOnlyExists": "the session may only read",
    "SessionExists": "another session is in the way",
    "SessionReadWriteSOExists": "the security officer is logged in",
    "FunctionRejected": "nobody confirmed it at the token",
    "FunctionCancelled": "it was cancelled",
}
_GONE = {
    "NoSuchToken": "no token of that label",
    "TokenNotPresent": "no token there",
    "TokenNotRecognised": "token not recognised",
    "DeviceRemoved": "token removed",
    "DeviceError": "device failed",
    "DeviceMemory": "device out of memory",
    "HostMemory": "out of memory",
    "SlotIDInvalid": "no such slot",
}
_WRONG = frozenset(
    {
        "MechanismInvalid",
        "MechanismParamInvalid",
        "FunctionNotSupported",
        "KeySizeRange",
        "KeyTypeInconsistent",
        "DataLenRange",
        "DataInvalid",
        "AttributeTypeInvalid",
        "AttributeValueInvalid",
        "TemplateIncomplete",
        "TemplateInconsistent",
        "DomainParamsInvalid",
    }
)
# SoftHSM says that it failed in general where a tag does not hold.
_ALTERED = frozenset(
    {"EncryptedDataInvalid", "EncryptedDataLenRange", "GeneralError", "FunctionFailed"}
)


def failure_of(error: Exception) -> Failure:
    """Classify an exception of python-pkcs11."""
    name = type(error).__name__
    if name in _STALE:
        return Failure(kind=Kind.STALE, reason="the session ended")
    if name in _GONE:
        return Failure(kind=Kind.GONE, reason=_GONE[name])
    if name in _REFUSED:
        return Failure(kind=Kind.REFUSED, reason=_REFUSED[name])
    if name in _WRONG:
        return Failure(kind=Kind.WRONG, reason=name)
    if name in _ALTERED:
        return Failure(kind=Kind.ALTERED, reason="it failed inside")
    if name == "PKCS11Error" and _PROHIBITED.search(str(error)):
        return Failure(kind=Kind.NOT_PERMITTED, reason="the key may not do this")
    # A class's name is no secret.
    return Failure(kind=Kind.GONE, reason=f"it failed inside ({name})")
