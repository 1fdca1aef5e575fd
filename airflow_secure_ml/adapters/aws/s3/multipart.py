"""One multipart upload: parts sent by a few threads, joined at once, or aborted.

Bounded: whoever hands in a part waits while as many bytes as allowed are on their way. A part's
buffer is sent as it is, however often, and used again only when the store has it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_secure_ml.adapters.aws.failures import Failure, Kind
from airflow_secure_ml.adapters.aws.s3 import uploads
from airflow_secure_ml.adapters.aws.s3.checksums import combine, crc_of, to_text
from airflow_secure_ml.adapters.aws.s3.parts import PART_BYTES, Part
from airflow_secure_ml.adapters.aws.s3.pinned import PinnedS3, changed
from airflow_secure_ml.adapters.aws.s3.place import Place
from airflow_secure_ml.adapters.aws.s3.terms import Terms
from airflow_secure_ml.errors import IntegrityError, SecureMLError, ServiceRefusedError

log = logging.getLogger(__name__)

THREADS = 4
# So many bytes are on their way at once, or one part where parts are longer.
MAX_ON_WAY_BYTES = THREADS * PART_BYTES


class Multipart:
    """An upload that was begun; `join` or `abort` ends it."""

    def __init__(self, place: Place, terms: Terms, *, has_copies: bool) -> None:
        self._place, self._has_copies = place, has_copies
        # A part that is tried again would keep an abort waiting.
        self._stop = threading.Event()
        self._parts_place = replace(place, stop=self._stop)
        self._changed = threading.Condition()
        self._on_way_bytes = 0
        self._sent: dict[int, dict[str, Any]] = {}
        self._crcs: dict[int, tuple[int, int]] = {}
        self._failed: BaseException | None = None
        self._free: list[bytearray] = []
        self._upload_id = ""
        # Asked for, and perhaps begun, though nobody here knows its id.
        self._is_unknown = False
        self._mark = uploads.Mark(place)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="s3-part")
        try:
            uploads.sweep_abandoned(place, datetime.now(UTC))
            self._begin(terms)
        except BaseException:
            self.abort()
            raise

    def _begin(self, terms: Terms) -> None:
        # A part that the store copies has no checksum that could be announced when the parts are
        # joined, so such an upload announces none; the whole is compared afterwards.
        checksum: dict[str, Any] = {}
        if not self._has_copies:
            checksum = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}
        began_s = time.monotonic()
        self._is_unknown = True
        try:
            answer = self._place.ask(
                "begin an upload to",
                "create_multipart_upload",
                **terms.headers,
                **checksum,
            )
        except ServiceRefusedError:
            self._is_unknown = False
            raise
        self._upload_id = answer["UploadId"]
        self._mark.name(self._upload_id)
        self._is_unknown = False
        if answer["AskedAgain"]:
            took = timedelta(seconds=time.monotonic() - began_s)
            uploads.sweep_lost(self._place, answer, took)
        terms.check_encrypted(answer, self._place.uri)

    def buffer(self, size_bytes: int) -> bytearray:
        """A buffer of a part's length, most likely used before."""
        with self._changed:
            if self._free and len(self._free[-1]) == size_bytes:
                return self._free.pop()
            self._free.clear()
        return bytearray(size_bytes)

    def send(self, part: Part) -> None:
        """Have a whole part uploaded; its buffer is the upload's from here on.

        Raises:
            SecureMLError: Another part failed; the upload is lost.
        """
        self._take(len(part.buffer))
        self._start(self._upload, part, len(part.buffer))

    def copy(self, number: int, source: PinnedS3, begin: int, length: int) -> None:
        """Have the store copy a part from an object of its own."""
        self._take(0)
        self._start(self._copy, (number, source, begin, length), 0)

    def _take(self, size_bytes: int) -> None:
        with self._changed:
            while (
                self._failed is None
                and self._on_way_bytes
                and self._on_way_bytes + size_bytes > MAX_ON_WAY_BYTES
            ):
                self._changed.wait()
            self._raise_failed()
            self._on_way_bytes += size_bytes

    def _start(self, act: Callable[[Any], None], what: Any, size_bytes: int) -> None:
        def work() -> None:
            if not self._stop.is_set() and self._failed is None:
                act(what)

        def ended(done: Future[None]) -> None:
            with self._changed:
                self._on_way_bytes -= size_bytes
                if not done.cancelled():
                    self._failed = self._failed or done.exception()
                self._changed.notify_all()

        self._pool.submit(work).add_done_callback(ended)

    def _upload(self, part: Part) -> None:
        crc = crc_of(part.buffer)
        # Given as a header: else botocore makes one of its own while it sends, in another framing.
        sum_: dict[str, Any] = {"ChecksumCRC64NVME": to_text(crc)}
        answer = self._parts_place.ask(
            "upload a part of", "upload_part", UploadId=self._upload_id, PartNumber=part.number,
            Body=part.buffer, **sum_,
        )  # fmt: skip
        sent = {"PartNumber": part.number, "ETag": answer["ETag"]}
        if not self._has_copies:
            sent |= sum_
        with self._changed:
            self._sent[part.number] = sent
            self._crcs[part.number] = (crc, len(part.buffer))
            if len(self._free) < 2:
                self._free.append(part.buffer)

    def _copy(self, what: tuple[int, PinnedS3, int, int]) -> None:
        number, source, begin, length = what
        answer = self._parts_place.ask(
            "copy a part of", "upload_part_copy", but=(Kind.NOTHING,),
            UploadId=self._upload_id, PartNumber=number,
            CopySource=source.copy_source, CopySourceIfMatch=source.etag,
            CopySourceRange=f"bytes={begin}-{begin + length - 1}",
        )  # fmt: skip
        if isinstance(answer, Failure):
            # The upload is ours alone: it is the source that somebody removed.
            raise changed(source.uri, "it was removed meanwhile")
        version = answer.get("CopySourceVersionId")
        if source.version_id and version not in (None, source.version_id):
            raise IntegrityError(f"{self._place.uri}: another version was copied than was opened")
        with self._changed:
            self._sent[number] = {
                "PartNumber": number,
                "ETag": answer["CopyPartResult"]["ETag"],
            }

    def _raise_failed(self) -> None:
        if isinstance(self._failed, SecureMLError):
            # The same error again, in another thread: with a trace of its own.
            raise self._failed
        if self._failed is not None:
            raise RuntimeError("a part's thread failed") from self._failed

    def join(self, condition: Mapping[str, str], size_bytes: int) -> dict[str, Any] | Failure:
        """Wait for the parts, and make them one object on a condition.

        Args:
            condition: `IfMatch` or `IfNoneMatch`, or nothing.
            size_bytes: The object's length.

        Returns:
            The answer, or the failure that leaves open what happened.
        """
        self._pool.shutdown(wait=True)
        self._raise_failed()
        parts = [self._sent[number] for number in sorted(self._sent)]
        whole: dict[str, Any] = {}
        if not self._has_copies:
            whole = {"ChecksumCRC64NVME": to_text(self.crc), "ChecksumType": "FULL_OBJECT"}
        answer: dict[str, Any] | Failure = self._place.ask(
            "write",
            "complete_multipart_upload",
            but=(Kind.CHANGED, Kind.NOTHING, Kind.LOST, Kind.BUSY, Kind.REFUSED),
            UploadId=self._upload_id,
            MultipartUpload={"Parts": parts},
            MpuObjectSize=size_bytes,
            **whole,
            **condition,
        )
        return answer

    @property
    def crc(self) -> int:
        """CRC-64/NVME of all parts that were sent from here, in their order."""
        crc = 0
        for number in sorted(self._crcs):
            crc = combine(crc, *self._crcs[number])
        return crc

    def over(self) -> None:
        """It was joined: nothing is left to abort."""
        self._upload_id = ""

    def abort(self) -> None:
        """End it; the store forgets its parts. Does nothing once it is over."""
        self._stop.set()
        is_over = False
        try:
            self._pool.shutdown(wait=False, cancel_futures=True)
            if self._upload_id:
                is_over = uploads.abort(self._place, self._upload_id)
                self._pool.shutdown(wait=True)
                # A part that was on its way may have come in after the first.
                is_over = is_over and uploads.abort(self._place, self._upload_id)
            else:
                is_over = not self._is_unknown
        finally:
            self._upload_id = ""
            self._mark.release(is_over=is_over)
        if self._is_unknown:
            # As of a killed process: what was begun about now, and nobody has a claim to.
            self._is_unknown = False
            uploads.sweep_own(self._place)
