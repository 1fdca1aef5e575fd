"""Every exception that this package raises, in one tree that says whose fault it is.

SecureMLError
├── ConfigurationError          fix the deployment; a retry cannot help
│   └── MissingExtraError       (also ImportError)
├── FormatError                 not a format, or a version, that this release reads
├── IntegrityError              what was read is not what was written: stop and look
│   ├── CiphertextError
│   ├── SignatureError
│   ├── ManifestMismatchError   .added .missing .changed
│   └── AuditLogError           .index
├── PolicyError                 the bytes are fine and the answer is no
│   └── ValidationFailedError   .report_uri .failed
└── ServiceError                another system; .service .action .reason
    ├── ServiceRefusedError     it said no: a retry cannot help
    └── ServiceUnavailableError it did not answer: retry
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MAX_NAMES = 10


class SecureMLError(Exception):
    """The root of the tree.

    Attributes:
        why: The reason's code in the audit trail (AUDIT_TRAIL, "Why").
        result: What the trail calls the outcome: `refused`, or `failed` where nobody said no.
    """

    why: str = "bug"
    result: str = "refused"

    def __init__(self, message: str = "", *, why: str | None = None) -> None:
        super().__init__(message)
        if why is not None:
            self.why = why

    # Exceptions pickle by their positional arguments; keyword attributes travel as state.
    def __reduce__(self) -> tuple[Any, ...]:
        return (rebuild, (type(self), self.args, self.__dict__.copy()))


def rebuild(
    cls: type[SecureMLError], args: tuple[Any, ...], state: dict[str, Any]
) -> SecureMLError:
    """Make an error of a class from another's arguments and attributes."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(SecureMLError):
    """The deployment or the call is wrong; fixing it helps, a retry does not."""

    why = "misconfigured"


class MissingExtraError(ConfigurationError, ImportError):
    """An optional library is not installed; the message holds the pip line."""


class FormatError(SecureMLError):
    """The bytes are not of a format, or a version, that this release reads."""

    why = "not_sealed"


class IntegrityError(SecureMLError):
    """What was read is not what was written: stop and look."""

    why = "digest_differs"


class CiphertextError(IntegrityError):
    """Sealed bytes were altered, cut, or belong to another file."""


class SignatureError(IntegrityError):
    """A signature or its statement does not hold."""

    why = "signature_invalid"


class ManifestMismatchError(IntegrityError):
    """Files differ from a signed manifest.

    Attributes:
        added: Relative paths that the manifest does not list.
        missing: Relative paths that are listed and not there.
        changed: Relative paths whose digest or length differs.
    """

    def __init__(
        self,
        message: str = "",
        *,
        added: Sequence[str] = (),
        missing: Sequence[str] = (),
        changed: Sequence[str] = (),
        why: str | None = None,
    ) -> None:
        super().__init__(message, why=why)
        self.added, self.missing, self.changed = tuple(added), tuple(missing), tuple(changed)


class AuditLogError(IntegrityError):
    """The audit log does not re-derive.

    Attributes:
        index: The first leaf that is wrong, from 0; None where no single leaf is to blame.
    """

    def __init__(
        self, message: str = "", *, index: int | None = None, why: str | None = None
    ) -> None:
        super().__init__(message, why=why)
        self.index = index


class PolicyError(SecureMLError):
    """The bytes are fine and the answer is no."""

    why = "rule_denied"


class ValidationFailedError(PolicyError):
    """A data set failed its expectations.

    Attributes:
        report_uri: Where the whole report is, if it was kept.
        failed: At most ten names of failed expectations, never a data value.
    """

    why = "expectation_failed"

    def __init__(
        self,
        message: str = "",
        *,
        report_uri: str | None = None,
        failed: Sequence[str] = (),
        why: str | None = None,
    ) -> None:
        super().__init__(message, why=why)
        self.report_uri, self.failed = report_uri, tuple(failed)[:MAX_NAMES]


class ServiceError(SecureMLError):
    """Another system failed.

    Attributes:
        service: Which system, such as `audit spool` or `vault`.
        action: What it was asked to do.
        reason: Its answer in short, without secrets.
    """

    why = "service_unavailable"
    result = "failed"

    def __init__(
        self,
        message: str = "",
        *,
        service: str = "",
        action: str = "",
        reason: str = "",
        why: str | None = None,
    ) -> None:
        super().__init__(message or f"{service}: {action}: {reason}", why=why)
        self.service, self.action, self.reason = service, action, reason


class ServiceRefusedError(ServiceError):
    """Another system answered no; a retry cannot help."""

    why = "key_not_allowed"
    result = "refused"


class ServiceUnavailableError(ServiceError):
    """Another system did not answer; a retry may help."""
