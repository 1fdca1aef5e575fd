"""What an object is stored with besides its bytes: asked for, and confirmed by the store's answer.

A store that does not know a header may pass over it and answer 200. So nothing is believed because
it was asked for: what the answer does not confirm is refused, and what was written is taken back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_secure_ml.errors import ConfigurationError, ServiceRefusedError

SERVICE = "s3"
# Tells one write from every other: what lies there after a lost answer is ours, or is not.
TOKEN = "asml-write"  # noqa: S105 - the name of a metadata entry
_SSE = ("", "AES256", "aws:kms")
_LOCKS = ("", "GOVERNANCE", "COMPLIANCE")
_KEPT = (
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "ContentType",
    "StorageClass",
    "WebsiteRedirectLocation",
)
_ENCRYPTION = ("ServerSideEncryption", "SSEKMSKeyId", "BucketKeyEnabled")
# What is compared after a rewrap; the rest is the store's own business, or was checked before.
_COMPARED = ("CacheControl", "ContentDisposition", "ContentLanguage", "ContentType")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a connection asks of every object that is written through it.

    Attributes:
        sse: `AES256`, `aws:kms`; empty: what the bucket does by itself.
        sse_kms_key_id: With `aws:kms`: key id, ARN or alias; empty: the account's own key.
        object_lock: `GOVERNANCE`, `COMPLIANCE`; empty: none.
        object_lock_days: With `object_lock`: for how long, from the writing on.
        legal_hold: Whether nobody may delete a version until the hold is lifted.
    """

    sse: str = ""
    sse_kms_key_id: str = ""
    object_lock: str = ""
    object_lock_days: int = 0
    legal_hold: bool = False

    def __post_init__(self) -> None:
        if self.sse not in _SSE:
            raise ConfigurationError(f"sse {self.sse!r}: expected AES256 or aws:kms")
        if self.sse_kms_key_id and self.sse != "aws:kms":
            raise ConfigurationError("sse_kms_key_id needs sse aws:kms; set it, or leave it out")
        if self.object_lock not in _LOCKS:
            raise ConfigurationError(
                f"object_lock {self.object_lock!r}: expected GOVERNANCE or COMPLIANCE"
            )
        if bool(self.object_lock) != (self.object_lock_days > 0):
            raise ConfigurationError(
                "object_lock and object_lock_days belong together: a mode, and 1 or more days"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What one object is stored with.

    Attributes:
        headers: Arguments of `put_object` and `create_multipart_upload`.
        is_kept: Whether some of it is another version's, which this one replaces.
    """

    headers: Mapping[str, Any]
    is_kept: bool = False

    @property
    def need_look(self) -> bool:
        """Whether only a look at the stored object confirms them."""
        return self.is_kept or any(name.startswith("ObjectLock") for name in self.headers)

    def check_encrypted(self, answer: Mapping[str, Any], uri: str) -> None:
        """Return if an answer confirms the encryption that was asked for.

        Raises:
            ServiceRefusedError: It does not.
        """
        wanted = self.headers.get("ServerSideEncryption")
        if wanted is None:
            return
        found = answer.get("ServerSideEncryption")
        if found != wanted:
            raise _unconfirmed(uri, f"encryption {wanted}", f"{found or 'none'}")
        key = self.headers.get("SSEKMSKeyId")
        if key is not None and not _is_key(str(key), str(answer.get("SSEKMSKeyId") or "")):
            raise _unconfirmed(uri, "encryption with that KMS key", "another key or none")

    def check_stored(self, head: Mapping[str, Any], uri: str) -> None:
        """Return if the stored object has everything; `head` is the answer of `head_object`.

        Raises:
            ServiceRefusedError: It has not.
        """
        self.check_encrypted(head, uri)
        mode, until = self.headers.get("ObjectLockMode"), None
        if mode is not None:
            until = head.get("ObjectLockRetainUntilDate")
            if head.get("ObjectLockMode") != mode:
                raise _unconfirmed(uri, f"a lock {mode}", f"{head.get('ObjectLockMode') or 'none'}")
            if until is None or until < self.headers["ObjectLockRetainUntilDate"]:
                raise _unconfirmed(uri, "a lock until the day asked for", f"until {until}")
        hold = self.headers.get("ObjectLockLegalHoldStatus")
        if hold is not None and head.get("ObjectLockLegalHoldStatus") != hold:
            raise _unconfirmed(uri, "a legal hold", "none")
        if self.is_kept:
            self._check_kept(head, uri)

    def _check_kept(self, head: Mapping[str, Any], uri: str) -> None:
        if dict(head.get("Metadata") or {}) != dict(self.headers["Metadata"]):
            raise _unconfirmed(uri, "the metadata of the version it replaces", "other metadata")
        for name in _COMPARED:
            if name in self.headers and head.get(name) != self.headers[name]:
                raise _unconfirmed(uri, f"the {name} of the version it replaces", "another")
        tags = self.headers.get("Tagging")
        if tags is not None and head.get("TagCount") != tags.count("&") + 1:
            raise _unconfirmed(uri, "the tags of the version it replaces", "others or none")


def make_terms(
    asked: Asked,
    *,
    token: str,
    now: datetime,
    metadata: Mapping[str, str] | None = None,
    kept: Mapping[str, Any] | None = None,
    tags: str = "",
) -> Terms:
    """What a new object is to be stored with.

    Args:
        asked: What the connection asks; it goes before what is kept, but for the longer lock.
        token: This write's own, stored as metadata.
        now: UTC.
        metadata: More entries of metadata.
        kept: The answer of `head_object` or `get_object` for the version that is replaced.
        tags: That version's tags, as a query string.
    """
    headers: dict[str, Any] = {}
    if kept is not None:
        # All of an encryption or nothing: the key of one is no key of another.
        names = _KEPT if asked.sse else _KEPT + _ENCRYPTION
        headers = {name: kept[name] for name in names if kept.get(name) is not None}
        # A sign of how the bytes came, which some gateways store as if it were of the object.
        if "aws-chunked" in str(headers.get("ContentEncoding")):
            del headers["ContentEncoding"]
        if headers.get("StorageClass") == "STANDARD":
            del headers["StorageClass"]
        if tags:
            headers["Tagging"] = tags
    own = dict((kept or {}).get("Metadata") or {}) | dict(metadata or {}) | {TOKEN: token}
    headers |= {"Metadata": own} | _encryption(asked) | _lock(asked, kept or {}, now)
    return Terms(headers=headers, is_kept=kept is not None)


def _encryption(asked: Asked) -> dict[str, Any]:
    if not asked.sse:
        return {}
    key = {"SSEKMSKeyId": asked.sse_kms_key_id} if asked.sse_kms_key_id else {}
    return {"ServerSideEncryption": asked.sse} | key


def _lock(asked: Asked, kept: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    found: dict[str, Any] = {}
    mode, until = kept.get("ObjectLockMode"), kept.get("ObjectLockRetainUntilDate")
    if mode is not None and until is not None and until > now:
        found = {"ObjectLockMode": mode, "ObjectLockRetainUntilDate": until.astimezone(UTC)}
    if asked.object_lock:
        wanted = (now + timedelta(days=asked.object_lock_days)).replace(microsecond=0)
        later = max(wanted, found.get("ObjectLockRetainUntilDate", wanted))
        modes = (asked.object_lock, found.get("ObjectLockMode"))
        stricter = "COMPLIANCE" if "COMPLIANCE" in modes else "GOVERNANCE"
        found = {"ObjectLockMode": stricter, "ObjectLockRetainUntilDate": later}
    if asked.legal_hold or kept.get("ObjectLockLegalHoldStatus") == "ON":
        found["ObjectLockLegalHoldStatus"] = "ON"
    return found


def _is_key(wanted: str, found: str) -> bool:
    """Whether the key that the store names, always by its ARN, is the one asked for."""
    if "alias/" in wanted:
        # What an alias stands for only KMS knows; that a key was used at all is confirmed.
        return bool(found)
    return found == wanted or found.endswith(f":key/{wanted}")


def _unconfirmed(uri: str, wanted: str, found: str) -> ServiceRefusedError:
    return ServiceRefusedError(
        f"{uri}: expected the store to confirm {wanted}, found {found}; it is refused. "
        "Take a store that does it, or do not ask for it in the connection",
        service=SERVICE,
        action=f"write {uri}",
        reason="not confirmed",
        why="store_refused",
    )
