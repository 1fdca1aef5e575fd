"""Figures of S3, directories, Parquet and recipients as lines of the table, and as bars."""

from __future__ import annotations

import copy

import pytest

from benchmarks import manifest, parquet, recipients, s3, sink
from benchmarks.picture import scale_panels, sealing_panels
from benchmarks.tables import PARTS_WITH_ROWS, aims_table

MIB = 1 << 20


def taken(wall_s, cpu_s=1.0):
    return [{"wall_s": wall_s, "cpu_s": cpu_s}] * 3


S3 = {
    "large": {
        "1024": {
            "up": {"ours": taken(2.3, 3.0), "boto3": taken(2.0, 2.0), "crt": taken(1.0, 1.5)},
            "down": {"ours": taken(2.0), "boto3": taken(2.0), "crt": taken(1.6)},
        }
    },
    "files": 1_000,
    "threads": 8,
    "small": {
        "up": {"ours": taken(4.0), "objects": taken(5.0), "boto3": taken(2.0)},
        "down": {"ours": taken(2.0), "boto3": taken(1.0)},
    },
}
MANIFEST = {
    "files": 10_000,
    "rounds": {
        "sha256sum": taken(2.0, 2.0),
        "ours_sha256": taken(1.0, 2.0),
        "ours_blake3": taken(1.0, 0.75),
        "digests_sha256": taken(1.0, 1.0),
        "digests_blake3": taken(0.5, 0.5),
        "peer_sha256": taken(3.0, 6.0),
        "peer_blake3": taken(3.0, 3.0),
    },
}
PARQUET = {
    "rows": 1_000_000,
    "columns": 26,
    "keyed": 2,
    "file_bytes": 128 * MIB,
    "rounds": {
        "write": {
            "plain": taken(1, 2.0),
            "whole": taken(1, 2.5),
            "columns": taken(1, 2.7),
            "arrow": taken(1, 2.2),
        },
        "read": {
            "plain": taken(1, 1.0),
            "whole": taken(1, 1.0),
            "columns": taken(1, 1.11),
            "arrow": taken(1, 1.1),
        },
    },
    "fetched": 0.05,
}


def test_s3_is_held_against_both_of_its_peers():
    found = s3.rows(S3)

    assert found[0] == (
        "1 GiB sealed into S3",
        "2.30 s",
        "boto3, plain: 2.00 s (1.15 × its time, 1.50 × its CPU), "
        "CRT, plain: 1.00 s (2.30 × its time, 2.00 × its CPU)",
        "≤ 1.15 × boto3: met; ≤ 1.15 × CRT: **missed**",
    )
    assert found[1][3] == "≤ 1.15 × boto3: met; ≤ 1.15 × CRT: **missed**"


def test_small_files_are_counted_by_the_second():
    found = s3.rows(S3)

    assert found[2] == (
        "1,000 files of 10 KiB sealed into S3, as one directory, 8 threads",
        "250/s",
        "boto3, plain: 500/s (2.00 × its time)",
        "reported",
    )
    assert [line[1] for line in found[3:]] == ["200/s", "500/s"]


def test_a_directory_is_held_against_what_model_signing_takes_by_default():
    sha256, blake3, *_ = manifest.rows(MANIFEST)

    assert sha256[1:] == (
        "2.00 s of CPU, 1/3.0 of model-signing's",
        "model-signing: 6.00 s of CPU",
        "≤ 1/3: met",
    )
    assert blake3[1:] == (
        "0.75 s of CPU, 1/8.0 of model-signing's",
        "model-signing: 6.00 s of CPU, 1/4.0 of that with BLAKE3 too",
        "≤ 1/10: **missed**",
    )


def test_digests_are_held_against_sha256sum():
    assert manifest.rows(MANIFEST)[2][1:] == (
        "1.00 s",
        "0.50 × `sha256sum`, 0.50 × its CPU",
        "reported",
    )


def test_checking_again_is_held_against_the_first_check():
    first, again = {"wall_s": 2.0, "cpu_s": 2.0}, {"wall_s": 0.2, "cpu_s": 0.1}

    row = manifest.rows({**MANIFEST, "again": {"first": first, "again": again}})[-1]

    assert row[1:] == (
        "0.10 s of CPU, 5.0% of the first check's",
        "`secure-ml verify --recheck`; the first: 2.00 s",
        "≤ 5 % of the first: met",
    )
    # What an earlier run did not measure is left out.
    assert len(manifest.rows(MANIFEST)) == 4


def test_column_keys_are_held_against_the_table_sealed_whole():
    written, read, one = parquet.rows(PARQUET)

    assert written[1:] == (
        "+8 % of CPU (2.70 s)",
        "over plain: +35 %; Arrow's own encryption, over plain: +10 %",
        "≤ 10 %: met",
    )
    assert read[3] == "≤ 10 %: **missed**"
    assert one[1] == "5.0 % fetched"
    assert one[3] == "≤ 8 %: met"


def test_a_column_that_fetches_too_much_is_a_miss():
    assert parquet.rows({**PARQUET, "fetched": 0.081})[-1][3] == "≤ 8 %: **missed**"


def test_recipients_are_counted_by_the_second():
    names = [*recipients.WRAPS, *recipients.SIGNS]
    rounds = {f"{name}, {way}": taken(0.5) for name in names for way in ("there", "back")}

    found = recipients.rows({"count": 1_000, "rounds": rounds})

    assert len(found) == len(names)
    assert all(line[1].startswith("2,000/s ") and line[3] == "reported" for line in found)


@pytest.mark.parametrize(("more_mib", "aim"), [(8, "≤ 8 MiB: met"), (9, "≤ 8 MiB: **missed**")])
def test_a_sink_shows_what_memory_grew(more_mib, aim):
    found = sink.rows(
        {
            "size_mib": 8192,
            "small_mib": 64,
            "small_peak_bytes": 32 * MIB,
            "peak_bytes": (32 + more_mib) * MIB,
            "wall_s": 8.0,
        }
    )

    assert found == [
        (
            "8 GiB sealed from a stream into a sink that keeps nothing",
            f"+{more_mib}.0 MiB of memory, 1 GiB/s",
            "64 MiB sealed: 32 MiB",
            aim,
        )
    ]


def test_every_part_has_its_lines_in_one_table():
    figures = {"s3": S3, "manifest": MANIFEST, "parquet": PARQUET}

    found = [row[0] for row in aims_table(figures).rows]

    assert set(figures) <= set(PARTS_WITH_ROWS)
    assert len(found) == len(set(found)) == 5 + 4 + 3


def test_bars_are_multiples_of_what_they_stand_beside():
    up, down, directory, table = scale_panels({"s3": S3, "manifest": MANIFEST, "parquet": PARQUET})

    assert up.title == "1 GiB into S3: time, × boto3"
    assert dict(zip(up.labels, up.ratios, strict=True)) == {
        "boto3, plain": 1.0,
        "boto3's CRT, plain": 0.5,
        "sealed": pytest.approx(1.15),
    }
    assert up.ours == [False, False, True]
    assert down.title == "1 GiB out of S3: time, × boto3"
    assert directory.ratios == [1.0, 0.5, pytest.approx(1 / 3), 0.125]
    assert table.ratios == pytest.approx([1.0, 1.1, 1.25, 1.35])


def test_only_the_largest_object_is_drawn():
    both = copy.deepcopy(S3)
    both["large"]["256"] = both["large"]["1024"]

    assert [one.title for one in scale_panels({"s3": both})] == [
        "1 GiB into S3: time, × boto3",
        "1 GiB out of S3: time, × boto3",
    ]


def test_what_was_not_measured_has_no_bar():
    rounds = {"cp": taken(1.0), "seal2": taken(1.2)}

    time, cpu = sealing_panels({"sealing": {"rounds": rounds}})

    assert time.labels == cpu.labels == ["cp", "sealed"]
    assert scale_panels({}) == []
