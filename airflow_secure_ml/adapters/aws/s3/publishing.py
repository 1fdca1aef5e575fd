"""The last request of a write: on which condition, what came of it, and whether it holds.

An answer that was lost leaves open whether the object is there. The write's own token, stored with
it, tells: what lies there is ours, or another's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from airflow_secure_ml.adapters.aws.failures import Failure, Kind
from airflow_secure_ml.adapters.aws.s3.checksums import crc_of, in_answer, to_text
from airflow_secure_ml.adapters.aws.s3.multipart import Multipart
from airflow_secure_ml.adapters.aws.s3.pinned import version_of
from airflow_secure_ml.adapters.aws.s3.place import Place
from airflow_secure_ml.adapters.aws.s3.terms import TOKEN, Terms
from airflow_secure_ml.errors import (
    FormatError,
    IntegrityError,
    PolicyError,
    SecureMLError,
    ServiceRefusedError,
)

_ANY = (Kind.CHANGED, Kind.NOTHING, Kind.LOST, Kind.BUSY, Kind.REFUSED)
_ETAG = "etag:"


def taken(uri: str) -> PolicyError:
    """The refusal to write where something is."""
    return PolicyError(
        f"{uri}: expected nothing there, found something; it stays as it is. "
        "Remove it, write elsewhere, or ask for it to be replaced",
        why="address_taken",
    )


def _hidden(uri: str) -> PolicyError:
    return PolicyError(
        f"{uri}: expected nothing there, found nothing that can be read, and yet the store refuses "
        "the write; some take the mark of a removal for an object. Ask for it to be replaced, or "
        "remove all of its versions",
        why="address_taken",
    )


def tags_of(place: Place, answer: Mapping[str, Any]) -> str:
    """The tags of a version, as a query string; no request where it has none."""
    if not answer.get("TagCount"):
        return ""
    version_id = answer.get("VersionId")
    which = {"VersionId": version_id} if version_id not in (None, "null") else {}
    tags = place.ask("read the tags of", "get_object_tagging", **which)["TagSet"]
    return urlencode([(tag["Key"], tag["Value"]) for tag in tags])


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What was published.

    Attributes:
        version: What the port calls it.
        version_id: Its VersionId; None: the bucket keeps no versions.
        etag: Its ETag, with quotes.
        size_bytes: Its length.
    """

    version: str
    version_id: str | None
    etag: str
    size_bytes: int


class Publishing:
    """One publication at one place."""

    def __init__(self, place: Place, token: str) -> None:
        self._place, self._token = place, token
        self._replace = False
        self._if_version: str | None = None

    def condition(
        self,
        *,
        replace: bool,
        if_version: str | None,
        is_looked_at: bool,
    ) -> tuple[dict[str, str], Mapping[str, Any] | None]:
        """The condition as arguments, and what it replaces where that was looked at.

        Args:
            replace: As `ObjectWriter.commit`.
            if_version: As `ObjectWriter.commit`.
            is_looked_at: Whether what is replaced has to be known.

        Raises:
            IntegrityError: Another version is there, or nothing.
        """
        self._replace, self._if_version = replace, if_version
        if if_version is None:
            return ({} if replace else {"IfNoneMatch": "*"}), None
        if if_version.startswith(_ETAG) and not is_looked_at:
            return {"IfMatch": if_version.removeprefix(_ETAG)}, None
        # Looked at although the condition follows: it names an ETag, which two versions may share,
        # and some stores let it pass where the newest version is a delete marker.
        head = self._look()
        if head is None or version_of(head)[1] != if_version:
            raise self._other("nothing" if head is None else f"version {version_of(head)[1]}")
        return {"IfMatch": head["ETag"]}, head

    def put(self, data: bytearray, terms: Terms, condition: Mapping[str, str]) -> Stored:
        """Publish by one request."""
        crc = crc_of(data)
        answer = self._place.ask(
            "write", "put_object", but=_ANY, Body=data, ChecksumCRC64NVME=to_text(crc),
            **terms.headers, **condition,
        )  # fmt: skip
        return self._settled(answer, terms, len(data), lambda: crc)

    def join(
        self,
        upload: Multipart,
        terms: Terms,
        condition: Mapping[str, str],
        size_bytes: int,
        expected_crc: Callable[[], int | None],
    ) -> Stored:
        """Publish an upload."""
        answer = upload.join(condition, size_bytes)
        stored = self._settled(answer, terms, size_bytes, expected_crc)
        upload.over()
        return stored

    def _settled(
        self,
        answer: dict[str, Any] | Failure,
        terms: Terms,
        size_bytes: int,
        expected_crc: Callable[[], int | None],
    ) -> Stored:
        if isinstance(answer, Failure) or answer["AskedAgain"]:
            # Published before its answer was lost, or not at all.
            there = self._look(is_certain=not isinstance(answer, Failure))
            if there is not None and (there.get("Metadata") or {}).get(TOKEN) == self._token:
                answer = there
            elif isinstance(answer, Failure):
                raise self._refusal(answer)
        version_id, version = version_of(answer)
        stored = Stored(
            version=version, version_id=version_id, etag=answer["ETag"], size_bytes=size_bytes
        )
        try:
            terms.check_encrypted(answer, self._place.uri)
            head: Mapping[str, Any] = self._look_at(stored) if terms.need_look else answer
            if terms.need_look:
                terms.check_stored(head, self._place.uri)
            self._check_sum(head, expected_crc)
        except SecureMLError as error:
            self._take_back(stored, error)
            raise
        return stored

    def _check_sum(self, answer: Mapping[str, Any], expected_crc: Callable[[], int | None]) -> None:
        found = in_answer(answer)
        expected = None if found is None else expected_crc()
        if expected is not None and found != expected:
            raise IntegrityError(
                f"{self._place.uri}: expected the store to have the bytes that were sent and "
                "copied, found another checksum; write it again"
            )

    def _look(self, *, is_certain: bool = True) -> dict[str, Any] | None:
        but = (Kind.NOTHING,) if is_certain else _ANY
        answer = self._place.ask("look at", "head_object", but=but, ChecksumMode="ENABLED")
        return None if isinstance(answer, Failure) else dict(answer)

    def _look_at(self, stored: Stored) -> Mapping[str, Any]:
        which: dict[str, Any] = {"VersionId": stored.version_id} if stored.version_id else {}
        answer: Mapping[str, Any] = self._place.ask(
            "look at", "head_object", IfMatch=stored.etag, ChecksumMode="ENABLED", **which
        )
        return answer

    def _take_back(self, stored: Stored, why: SecureMLError) -> None:
        which: dict[str, Any]
        if stored.version_id is not None:
            which = {"VersionId": stored.version_id}
        elif self._if_version is not None:
            # Nothing is behind it: whoever rewraps would be left with no file at all.
            why.args = (f"{why.args[0]}. It replaced what was there, and stays", *why.args[1:])
            return
        else:
            which = {"IfMatch": stored.etag}
        answer = self._place.ask("take back", "delete_object", but=_ANY, **which)
        if isinstance(answer, Failure) and answer.kind is not Kind.NOTHING:
            why.args = (
                f"{why.args[0]}. What was written could not be taken back ({answer.reason}): "
                f"remove version {stored.version}",
                *why.args[1:],
            )

    def _refusal(self, answer: Failure) -> Exception:
        """Why it was not published; what is there stays as it is."""
        uri = self._place.uri
        is_missing = answer.kind is Kind.NOTHING and answer.reason != "NoSuchUpload"
        if answer.kind is Kind.CHANGED or is_missing:
            if not self._replace:
                return taken(uri) if self._look(is_certain=False) else _hidden(uri)
            return self._other("nothing" if is_missing else "another one")
        if answer.reason == "ExistingObjectIsDirectory":
            return taken(uri)
        if answer.reason == "ObjectParentIsFile":
            return FormatError(f"{uri}: expected a directory above it, found an object")
        if answer.reason == "NoSuchUpload":
            return ServiceRefusedError(
                service="s3",
                action=f"write {uri}",
                reason="somebody aborted the upload; begin it again",
                why="store_refused",
            )
        return self._place.error("write", answer)

    def _other(self, found: str) -> IntegrityError:
        wanted = f"version {self._if_version}" if self._if_version else "what was there"
        return IntegrityError(
            f"{self._place.uri}: expected {wanted} still there, found {found}; "
            "another writer came in between, and its bytes stay"
        )
