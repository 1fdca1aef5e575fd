"""Draw the ratios of one run as bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measuring import column, median_ratio
from benchmarks.tables import MIB, size_in_words

if TYPE_CHECKING:
    from benchmarks.tables import Figures

_BARS = {
    "cp": "cp",
    "seal2": "sealed",
    "secured": "sealed, SHA-256,\nsigned, on disk",
    "age": "age",
    "tink": "Tink",
    "aws": "AWS Encryption SDK",
    "fernet": "Fernet",
}
_S3 = {"boto3": "boto3, plain", "crt": "boto3's CRT, plain", "ours": "sealed"}
_MANIFEST = {
    "peer_sha256": "model-signing",
    "peer_blake3": "the same, BLAKE3",
    "ours_sha256": "signed, SHA-256",
    "ours_blake3": "signed, BLAKE3",
}
_PARQUET = {
    "plain": "plain",
    "arrow": "Arrow's encryption",
    "whole": "sealed whole",
    "columns": "sealed by columns",
}
_OURS = {"seal2", "secured", "ours", "ours_sha256", "ours_blake3", "whole", "columns"}
_OURS_COLOUR, _OTHERS_COLOUR, _INK = "#0b6e69", "#b8bec5", "#24292f"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One group of bars.

    Attributes:
        title: What they are multiples of.
        labels: How the ones that are drawn are called, in order.
        ratios: Of each; as many.
        ours: Which of them are this package's.
    """

    title: str
    labels: Sequence[str]
    ratios: Sequence[float]
    ours: Sequence[bool]


def panel(
    title: str,
    labels: Mapping[str, str],
    rounds: Mapping[str, Any],
    reference: str,
    figure: str,
) -> Panel:
    """The bars of those that were measured, as multiples of one of them."""
    names = [name for name in labels if name in rounds]
    beside = column(rounds[reference], figure)
    return Panel(
        title=title,
        labels=[labels[name] for name in names],
        ratios=[median_ratio(column(rounds[name], figure), beside) for name in names],
        ours=[name in _OURS for name in names],
    )


def sealing_panels(figures: Figures) -> list[Panel]:
    """Each tool's time and CPU as multiples of `cp`."""
    rounds = figures["sealing"]["rounds"]
    return [
        panel("Time, as a multiple of cp", _BARS, rounds, "cp", "wall_s"),
        panel("CPU, as a multiple of cp", _BARS, rounds, "cp", "cpu_s"),
    ]


def scale_panels(figures: Figures) -> list[Panel]:
    """Object stores, directories and tables, of the parts that were measured."""
    found = []
    if "s3" in figures:
        size, both = max(figures["s3"]["large"].items(), key=lambda one: int(one[0]))
        words = size_in_words(int(size) * MIB)
        for which, doing in (("up", "into"), ("down", "out of")):
            title = f"{words} {doing} S3: time, × boto3"
            found.append(panel(title, _S3, both[which], "boto3", "wall_s"))
    if "manifest" in figures:
        title = f"{figures['manifest']['files']:,} files signed, verified: CPU, × model-signing"
        rounds = figures["manifest"]["rounds"]
        found.append(panel(title, _MANIFEST, rounds, "peer_sha256", "cpu_s"))
    if "parquet" in figures:
        rounds = figures["parquet"]["rounds"]["write"]
        found.append(panel("Parquet written: CPU, × plain", _PARQUET, rounds, "plain", "cpu_s"))
    return found


def draw(figures: Figures, path: Path) -> None:
    """Write a PNG of what sealing takes beside other tools."""
    size = size_in_words(figures["sealing"]["size_mib"] * MIB)
    _draw(sealing_panels(figures), f"Sealing {size}, file to file", path, rows=1)


def draw_scale(figures: Figures, path: Path) -> None:
    """Write a PNG of what object stores, directories and tables take beside other tools."""
    panels = scale_panels(figures)
    if panels:
        _draw(panels, "Object stores, directories and tables", path, rows=-(-len(panels) // 2))


def _draw(panels: Sequence[Panel], title: str, path: Path, *, rows: int) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    mpl.rcParams.update({"font.family": "DejaVu Sans", "font.size": 10, "text.color": _INK})
    # The names stand once for both where they are the same.
    is_shared = rows == 1 and len({tuple(one.labels) for one in panels}) == 1
    height = 3.4 if rows == 1 else 2.0 * rows + 0.5
    figure, axes = plt.subplots(
        rows,
        2,
        figsize=(9, height),
        sharey=is_shared,
        layout="constrained",
        squeeze=False,
    )
    for axis, one in zip(axes.flat, panels, strict=False):
        _bars(axis, one)
        if not is_shared:
            axis.invert_yaxis()
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    if is_shared:
        axes[0][0].invert_yaxis()
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without the version of matplotlib in it: the same figures make the same file.
    figure.savefig(path, dpi=150, facecolor="white", metadata={"Software": None})
    plt.close(figure)


def _bars(axis: Any, one: Panel) -> None:
    colours = [_OURS_COLOUR if is_ours else _OTHERS_COLOUR for is_ours in one.ours]
    bars = axis.barh(list(one.labels), one.ratios, color=colours, height=0.62)
    digits = 1 if max(one.ratios) >= 10 else 2
    axis.bar_label(
        bars,
        labels=[f"{each:.{digits}f}" if each < 10 else f"{each:.0f}" for each in one.ratios],
        padding=4,
    )
    axis.set_title(one.title, loc="left", fontsize=10)
    axis.set_xlim(0, max(one.ratios) * 1.12)
    axis.set_xticks([])
    axis.tick_params(length=0, colors=_INK)
    axis.spines[:].set_visible(False)
    axis.axvline(1, color=_INK, linewidth=0.8, linestyle=(0, (2, 2)))
