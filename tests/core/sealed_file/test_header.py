"""The header: written as the reference writes it, and every other byte refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_secure_ml.core.sealed_file.header import (
    check_header_mac,
    decode_header,
    encode_header,
    header_bytes_wanted,
    make_core,
)
from airflow_secure_ml.core.sealed_file.keys import commits_to
from airflow_secure_ml.core.sealed_file.slots import Slot
from airflow_secure_ml.errors import CiphertextError, ConfigurationError, FormatError

FILE_KEY = bytes(range(0x20, 0x40))
CONTEXT = {"dataset": "d1"}
SLOT = Slot(type=7, id="k", body=b"body")


def patched(header: bytes, at: int, new: bytes) -> bytes:
    return header[:at] + new + header[at + len(new) :]


def refused(data: bytes, object_bytes: int | None = None) -> bool:
    """Whether parser, commitment or HMAC refuse, in the reader's order."""
    try:
        header = decode_header(data, object_bytes=object_bytes or len(data))
        if not commits_to(FILE_KEY, header.core.commitment):
            return True
        check_header_mac(header, FILE_KEY)
    except (FormatError, CiphertextError):
        return True
    return False


def written(slots, *, context=CONTEXT, suite=1, plaintext_bytes=5):
    core = make_core(suite, FILE_KEY, context)
    return encode_header(core, slots, FILE_KEY, plaintext_bytes=plaintext_bytes)


def test_a_header_is_written_as_the_reference_writes_it(reference):
    slots = [(7, "k", b"body"), (3, "transit/k", b"vault:v1:QUJD"), (7, "a", b"x" * 9)]

    ours = written([Slot(type=t, id=i, body=b) for t, i, b in slots])

    assert ours == reference.header(FILE_KEY, reference.core(FILE_KEY, CONTEXT), slots, 512)


@given(
    st.dictionaries(st.text("abc._-", min_size=1, max_size=9), st.text("xyzäé"), max_size=9),
    st.dictionaries(
        st.tuples(st.integers(7, 65535), st.text("abc/", min_size=1, max_size=9)),
        st.binary(min_size=1, max_size=99),
        min_size=1,
        max_size=9,
    ),
)
def test_what_is_written_is_read(context, bodies):
    slots = [Slot(type=t, id=i, body=b) for (t, i), b in bodies.items()]

    header = decode_header(data := written(slots, context=context), object_bytes=len(data))

    assert dict(header.core.context) == context
    assert sorted(header.slots, key=lambda s: s.order) == sorted(slots, key=lambda s: s.order)
    check_header_mac(header, FILE_KEY)


@given(st.binary(max_size=2000))
def test_any_bytes_are_read_or_refused(data):
    magic = bytes.fromhex("8941534d4c0d0a1a0101")
    for candidate in (data, magic + data):
        assert refused(candidate)


@given(st.data())
def test_a_changed_header_is_refused(build, data):
    header = build()
    at = data.draw(st.integers(0, len(header) - 1))
    new = data.draw(st.binary(min_size=1, max_size=8))
    changed = patched(header, at, new)[: len(header)]

    assert changed == header or refused(changed)


def test_every_flipped_bit_of_every_byte_is_refused(build):
    header = build(context={"dataset": "d1", "path": "a/b"})

    survivors = [
        (at, bit)
        for at in range(len(header))
        for bit in range(8)
        if not refused(patched(header, at, bytes([header[at] ^ 1 << bit])))
    ]

    assert survivors == []
    assert not refused(header)


def test_only_bodies_of_types_3_and_4_may_change_under_the_hmac(build):
    slots = [(3, "transit/data", b"vault:v1:QUJD"), (7, "z", b"body")]
    header = build(slots=slots)

    assert not refused(build(slots=[(3, "transit/data", b"vault:v2:QUJDREVG"), slots[1]]))
    survivors = [at for at in range(512) if not refused(patched(header, at, b"%"))]
    assert survivors == []
    newer = header.replace(b"vault:v1:QUJD", b"vault:v2:QUJE")
    assert not refused(newer)


@pytest.mark.parametrize("cut", range(0, 512, 1))
def test_a_header_that_is_cut_is_refused(build, cut):
    with pytest.raises(FormatError):
        decode_header(build()[:cut], object_bytes=cut)


@pytest.mark.parametrize(
    ("at", "new", "message"),
    [
        (0, b"\x88", "not a sealed file"),
        (8, b"\x00", "version 0"),
        (8, b"\x02", "version 2"),
        (9, b"\x00", "suite 0x00"),
        (9, b"\x03", "suite 0x03"),
        (9, b"\x11", "suite 0x11"),
        (10, (45).to_bytes(2, "big"), "core of 45"),
        (10, (16385).to_bytes(2, "big"), "core of 16385"),
        (10, (61).to_bytes(2, "big"), "are left|too many|announced"),
    ],
)
def test_another_start_is_refused(build, at, new, message):
    with pytest.raises(FormatError, match=message):
        decode_header(patched(build(), at, new), object_bytes=512)


@pytest.mark.parametrize("announced", [0, 511, 513, 1024, 1048576, 1048576 + 512, 2**32 - 512])
def test_another_header_length_is_refused(build, announced):
    header = build()
    core_bytes = int.from_bytes(header[10:12], "big")

    with pytest.raises(FormatError, match="announced"):
        decode_header(patched(header, core_bytes, announced.to_bytes(4, "big")), object_bytes=2**40)


def test_a_header_length_below_its_core_is_refused(build):
    header = build(context={"k": "v" * 1000})
    core_bytes = int.from_bytes(header[10:12], "big")

    with pytest.raises(FormatError, match="do not hold"):
        decode_header(patched(header, core_bytes, b"\0\0\x02\0"), object_bytes=2**40)


def test_padding_is_zero(build):
    header = build()

    for at in (300, 512 - 33):
        with pytest.raises(FormatError, match="padding"):
            decode_header(patched(header, at, b"\x01"), object_bytes=512)


@pytest.mark.parametrize("at", [8, 9, 10, 44, 62, 512 - 32, 511])
def test_a_longer_object_does_not_help(build, at):
    changed = patched(build(), at, b"\xee")

    assert refused(changed + bytes(1000))


@pytest.mark.parametrize(
    ("plaintext_bytes", "size"),
    [(0, 512), (65535, 512), (65536, 4096), (None, 4096)],
)
def test_a_writer_takes_the_smallest_multiple(plaintext_bytes, size):
    assert len(written([SLOT], plaintext_bytes=plaintext_bytes)) == size


def test_the_smallest_multiple_is_exact():
    core_bytes = len(make_core(1, FILE_KEY, CONTEXT).encoded)
    fits = 512 - core_bytes - 6 - 32 - 6 - 1

    assert len(written([Slot(type=7, id="k", body=b"x" * fits)])) == 512
    assert len(written([Slot(type=7, id="k", body=b"x" * (fits + 1))])) == 1024


def test_the_largest_core_that_is_written_is_read():
    context = {f"k{i:02}": "v" * 1024 for i in range(15)} | {"z": "v" * 868}

    data = written([SLOT], context=context)

    assert int.from_bytes(data[10:12], "big") == 16384
    assert dict(decode_header(data, object_bytes=len(data)).core.context) == context
    with pytest.raises(ConfigurationError, match="16340"):
        written([SLOT], context=context | {"z": "v" * 869})


def test_the_largest_header_that_is_written_is_read():
    slots = [Slot(type=7, id=f"{i:0256}", body=b"x" * 8192) for i in range(64)]

    data = written(slots)

    assert len(data) == 541184
    assert len(decode_header(data, object_bytes=len(data)).slots) == 64


def test_a_reader_asks_for_what_it_needs_and_no_more(build):
    header = build(context={"k": "v" * 600})

    assert header_bytes_wanted(b"") == 12
    assert header_bytes_wanted(header[:12]) == 44 + 2 + 2 + 1 + 2 + 600 + 4
    assert header_bytes_wanted(header[:700]) == 1024
    with pytest.raises(FormatError):
        header_bytes_wanted(b"PAR1" + bytes(8))


def test_a_data_set_key_ends_at_its_header(build):
    header = build(suite=0x10)

    assert decode_header(header, object_bytes=512).core.suite == 0x10
    with pytest.raises(FormatError, match="behind its header"):
        decode_header(header + b"\0", object_bytes=513)


def test_a_data_set_key_needs_a_context(build):
    with pytest.raises(FormatError, match="empty"):
        decode_header(build(suite=0x10, context={}), object_bytes=512)
    with pytest.raises(ConfigurationError, match="at least one pair"):
        make_core(0x10, FILE_KEY, {})


def test_a_data_set_key_cannot_open_another(build):
    slots = [(5, "ab" * 32, bytes(40))]

    with pytest.raises(FormatError, match="cannot open another"):
        decode_header(build(suite=0x10, slots=slots), object_bytes=512)
    with pytest.raises(ConfigurationError, match="cannot open another"):
        written([Slot(type=5, id="ab" * 32, body=bytes(40))], suite=0x10)


def test_a_slot_of_another_file_breaks_the_hmac(build, reference):
    other = build(slots=[(7, "k", b"body"), (7, "l", b"more")])
    one = build(slots=[(7, "k", b"body")])

    assert refused(one[:-32] + other[-32:])
