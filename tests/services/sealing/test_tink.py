"""The payload is Tink's: PyPI `tink` reads what is sealed here, and the other way round."""

from __future__ import annotations

import io

import pytest
import tink
from tink import secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

FILE_KEY = bytes(range(0x20, 0x40))
KEK = bytes(range(32))


@pytest.fixture(scope="module", autouse=True)
def _registered():
    streaming_aead.register()


def primitive(reference, core):
    """Tink's streaming AEAD for one file, from the key that the reference derives."""
    key = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(
        key_value=reference.expand(FILE_KEY, b"asml/v1/payload" + reference.core_id(core)),
        params=aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
            ciphertext_segment_size=1 << 20,
            derived_key_size=32,
            hkdf_hash_type=common_pb2.SHA256,
        ),
    )
    keyset = tink_pb2.Keyset(primary_key_id=1)
    keyset.key.add(
        key_data=tink_pb2.KeyData(
            type_url="type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey",
            value=key.SerializeToString(),
            key_material_type=tink_pb2.KeyData.SYMMETRIC,
        ),
        status=tink_pb2.ENABLED,
        key_id=1,
        output_prefix_type=tink_pb2.RAW,
    )
    handle = tink.proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)


LENGTHS = [0, 1, 1048519, 1048520, 1048521, 2097080, 2097081, 3_000_000]


@pytest.mark.parametrize("length", LENGTHS)
def test_tink_reads_what_is_sealed(bench, reference, pattern, length):
    fresh = [FILE_KEY, bytes(range(32)), bytes(range(7))]

    file = bench.seal(pattern(length), random_bytes=lambda _: fresh.pop(0))

    core = file[: int.from_bytes(file[10:12], "big")]
    payload = io.BytesIO(file[bench.sealed.header_bytes :])
    stream = primitive(reference, core).new_decrypting_stream(payload, reference.core_id(core))
    with stream as plain:
        assert plain.read() == pattern(length)


@pytest.mark.parametrize("length", LENGTHS)
def test_what_tink_writes_is_opened(bench, reference, pattern, length):
    core = reference.core(FILE_KEY, bench.context)
    slots = [(1, "team/3", reference.kek_body(KEK, FILE_KEY, core))]
    sink = io.BytesIO()
    sink.close = lambda: None

    with primitive(reference, core).new_encrypting_stream(sink, reference.core_id(core)) as stream:
        stream.write(pattern(length))

    file = reference.header(FILE_KEY, core, slots, 4096) + sink.getvalue()
    assert bench.open(file) == pattern(length)
