"""Seal plaintext into an object, open it again, and look at it without a key.

Nothing is published here: whoever made the writer commits it, after these functions returned; on
any error it is aborted and the target stays as it was. Changing who can open an object is
`services.rewrapping`'s business.

Source: SEALED_FILE_FORMAT, Reading.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from airflow_secure_ml.core.crypto_policy import CryptoPolicy, governing
from airflow_secure_ml.core.digest import Digest
from airflow_secure_ml.core.ports import KeyRef, KeyWrapper, ObjectWriter, PinnedObject
from airflow_secure_ml.core.sealed_file.context import Expected
from airflow_secure_ml.core.sealed_file.header import (
    SUITE_DATASET_KEY,
    Core,
    encode_header,
    make_core,
)
from airflow_secure_ml.core.sealed_file.keys import KEY_BYTES, TYPE_HPKE, wipe
from airflow_secure_ml.core.sealed_file.segments import PayloadLayout
from airflow_secure_ml.core.sealed_file.slots import Slot
from airflow_secure_ml.core.sealed_file.suites import payload_suite
from airflow_secure_ml.errors import ConfigurationError, IntegrityError
from airflow_secure_ml.services.sealed_header import (
    ReaderKey,
    StateOf,
    check_covers,
    naming,
    read_sealed_header,
    unlock,
)
from airflow_secure_ml.services.sealed_payload import (
    Progress,
    Sink,
    Work,
    digest_of_payload,
    open_payload,
    payload_cipher,
    payload_layout,
    seal_payload,
)
from airflow_secure_ml.services.sealed_source import Plaintext, open_source

# More than the cores that a task has: each waits for its turn at the digest, and for its bytes.
DEFAULT_THREADS = 4
# Take the digest that the keys' policy writes; not None, which is to take none.
AS_POLICY = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What was sealed, as references, statements and events name it.

    Attributes:
        core_id: 32 bytes, the file's name towards keys.
        header_bytes: Where the payload begins.
        payload_digest: `sha256:<hex>` of the payload; None if no digest was asked for.
        payload_bytes: Its length.
        plaintext_bytes: Length of what it holds.
        key: The first of the keys that open it.
        suite: Number of the suite it is of.
    """

    core_id: bytes
    header_bytes: int
    payload_digest: str | None
    payload_bytes: int
    plaintext_bytes: int
    key: KeyRef
    suite: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What was opened.

    Attributes:
        core_id: 32 bytes, the file's name towards keys and signatures.
        context: All pairs that are stored, authenticated.
        key: The key that opened it.
        plaintext_bytes: Length of what it held.
        payload_digest: `sha256:<hex>` of the payload; None if no digest was asked for.
        payload_bytes: Its length.
    """

    core_id: bytes
    context: Mapping[str, str]
    key: KeyRef
    plaintext_bytes: int
    payload_digest: str | None
    payload_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadDigest:
    """What a signature covers of a sealed object, taken without a key.

    Attributes:
        core_id: 32 bytes.
        payload_digest: `sha256:<hex>` of the payload.
        payload_bytes: Its length.
        plaintext_bytes: Length of what it holds.
    """

    core_id: bytes
    payload_digest: str
    payload_bytes: int
    plaintext_bytes: int


def seal_object(
    source: Plaintext,
    writer: ObjectWriter,
    *,
    keys: Sequence[KeyWrapper],
    context: Mapping[str, str],
    plaintext_bytes: int | None = None,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    threads: int = DEFAULT_THREADS,
    digest_algorithm: str | None = AS_POLICY,
    progress: Progress | None = None,
    suite: int | None = None,
) -> Sealed:
    """Seal plaintext into `writer`; the caller commits it.

    Args:
        source: A path, descriptor or pinned object is read by several threads, a stream by one
            at a time. Streams and descriptors stay open.
        writer: Takes header and payload.
        keys: Whoever shall be able to open it; 1 to 64.
        context: The encryption context; public.
        plaintext_bytes: The length that `source` must have; a stream of known length gets a
            smaller header where that is worth it.
        random_bytes: Fresh randomness; never the same bytes twice.
        threads: 1 to 64, the caller's included.
        digest_algorithm: `sha256`, `blake3`; None: no digest is taken. Left out: what the keys'
            policy writes.
        progress: Called with the plaintext bytes done so far, by one thread at a time.
        suite: Number of the suite; None: what the keys' policy writes.

    Raises:
        ConfigurationError: Keys or context that the format does not allow.
        PolicyError: A data-set key whose context this file lacks (context_differs), or a suite,
            kind of key or digest that the keys' policy does not write (rule_denied).
        IntegrityError: The source changed while it was read.
    """
    policy = governing(keys)
    chosen = payload_suite(policy.suite_to_write if suite is None else suite)
    algorithm = policy.digest_to_write if digest_algorithm == AS_POLICY else digest_algorithm
    work = Work(threads=threads, digest_algorithm=algorithm, progress=progress)
    for key in keys:
        check_covers(key, context)
    fresh = functools.partial(_random, random_bytes)
    file_key = bytearray(fresh(KEY_BYTES))
    try:
        core = make_core(chosen.number, file_key, context)
        slots = wrap_slots(keys, core, file_key)
        with open_source(source, size_bytes=plaintext_bytes, suite=chosen) as plain:
            header = encode_header(core, slots, file_key, plaintext_bytes=plain.size_bytes)
            cipher = chosen.sealing_cipher(file_key, core.id, fresh)
            writer.write_at(0, header)
            digest = seal_payload(
                plain, writer, payload_at=len(header), suite=chosen, cipher=cipher, work=work
            )
            layout = chosen.layout_of_plaintext(plain.finish())
    finally:
        wipe(file_key)
    return Sealed(
        core_id=core.id,
        header_bytes=len(header),
        payload_digest=digest,
        payload_bytes=layout.payload_bytes,
        plaintext_bytes=layout.plaintext_bytes,
        key=keys[0].ref_of(slots[0].body),
        suite=core.suite,
    )


def open_object(
    obj: PinnedObject,
    sink: Sink,
    *,
    keys: Sequence[ReaderKey],
    expect: Expected,
    expected_payload_digest: str | None = None,
    expected_payload_bytes: int | None = None,
    threads: int = DEFAULT_THREADS,
    digest_algorithm: str | None = "sha256",
    progress: Progress | None = None,
    state_of: StateOf | None = None,
) -> Opened:
    """Open a sealed object into `sink`; the caller commits it.

    Every segment is verified before a byte of it goes to the sink, the last one before all
    others. A stream gets plaintext in order, before the payload's digest is known: where a
    signature counts, open into an ObjectWriter and commit after this returned. A payload of a
    sequential suite is read twice where the sink is a stream: all of it is verified first.

    Args:
        obj: Pinned; stays open.
        sink: An ObjectWriter, or a stream.
        keys: The reader's list, tried in its order; `sealed_dataset.DataSetRoot` for data sets.
        expect: Pairs that must be stored, or `ANY_CONTEXT`.
        expected_payload_digest: What a signed statement says; its algorithm is used.
        expected_payload_bytes: What a signed statement says.
        threads: 1 to 64, the caller's included.
        digest_algorithm: Without an expected digest; None: no digest is taken.
        progress: Called with the plaintext bytes done so far, by one thread at a time.
        state_of: `KeySystem.state_of`, to say why no key opens.

    Raises:
        FormatError: Not a sealed file that this release reads.
        PolicyError: Wrong context, no key, or what the keys' policy does not read (`why` says
            which).
        CiphertextError: Altered, cut, or put together from several files.
        IntegrityError: Another payload than expected, or it changed meanwhile.
        ServiceUnavailableError: A key system did not answer.
    """
    expected = None if expected_payload_digest is None else Digest.parse(expected_payload_digest)
    algorithm = digest_algorithm if expected is None else expected.algorithm
    work = Work(threads=threads, digest_algorithm=algorithm, progress=progress)
    header = read_sealed_header(obj)
    with naming(obj.uri):
        with unlock(header, keys=keys, expect=expect, state_of=state_of) as unlocked:
            layout = payload_layout(obj, header)
            _check_length(layout, expected_payload_bytes)
            cipher = payload_cipher(obj, header, unlocked.file_key, sink=sink, threads=threads)
        digest = open_payload(obj, header, sink, cipher=cipher, work=work)
        obj.check_unchanged()
        _check_digest(digest, expected)
    return Opened(
        core_id=header.core_id,
        context=header.core.context,
        key=unlocked.key,
        plaintext_bytes=layout.plaintext_bytes,
        payload_digest=digest,
        payload_bytes=layout.payload_bytes,
    )


def digest_payload(
    obj: PinnedObject,
    *,
    digest_algorithm: str = "sha256",
    threads: int = DEFAULT_THREADS,
    progress: Progress | None = None,
) -> PayloadDigest:
    """What a signature covers of a sealed object, without a key: nothing is authenticated.

    Raises:
        FormatError: Not a sealed file that this release reads.
        CiphertextError: Cut or added to, as far as the length shows.
        IntegrityError: It changed meanwhile.
    """
    header = read_sealed_header(obj)
    if header.core.suite == SUITE_DATASET_KEY:
        raise ConfigurationError(f"{obj.uri}: a data-set key has no payload to take a digest of")
    work = Work(threads=threads, digest_algorithm=digest_algorithm, progress=progress)
    with naming(obj.uri):
        layout = payload_layout(obj, header)
        digest = digest_of_payload(obj, header, work)
        obj.check_unchanged()
    assert digest is not None
    return PayloadDigest(
        core_id=header.core_id,
        payload_digest=digest,
        payload_bytes=layout.payload_bytes,
        plaintext_bytes=layout.plaintext_bytes,
    )


def wrap_slots(keys: Sequence[KeyWrapper], core: Core, file_key: bytes | bytearray) -> list[Slot]:
    """One slot for each key; whatever is sealed or rewrapped passes here.

    Raises:
        ConfigurationError: No key at all; the other limits are `encode_header`'s.
        PolicyError: The keys' policy does not write this suite, or such slots (rule_denied).
    """
    if not keys:
        raise ConfigurationError("no key is named; nobody could open what is sealed")
    policy = governing(keys)
    policy.check_suite(core.suite, "write")
    return [_wrapped(key, core, file_key, policy) for key in keys]


def _wrapped(
    key: KeyWrapper, core: Core, file_key: bytes | bytearray, policy: CryptoPolicy
) -> Slot:
    # An HPKE slot tells in its body what it is, and is made here; other keys are not even asked.
    if key.slot_type != TYPE_HPKE:
        policy.check_slot(key.slot_type, b"", "write")
    body = key.wrap(file_key, core.id)
    policy.check_slot(key.slot_type, body, "write")
    return Slot(type=key.slot_type, id=key.slot_id, body=body)


def _random(random_bytes: Callable[[int], bytes], length: int) -> bytes:
    fresh = random_bytes(length)
    if len(fresh) != length:
        raise ConfigurationError(f"randomness: {len(fresh)} bytes, {length} were asked for")
    return fresh


def _check_length(layout: PayloadLayout, expected: int | None) -> None:
    if expected is not None and layout.payload_bytes != expected:
        raise IntegrityError(f"a payload of {layout.payload_bytes} bytes, expected {expected}")


def _check_digest(digest: str | None, expected: Digest | None) -> None:
    if expected is None:
        return
    if digest is None or not expected.equals(Digest.parse(digest)):
        raise IntegrityError(
            f"its payload has the digest {digest}, expected {expected}; "
            "it was sealed anew under the same header, or is an older one"
        )
