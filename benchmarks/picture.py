"""Draw the ratios of one run as bars."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measuring import median_ratio
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
_OURS = {"seal2", "secured"}
_OURS_COLOUR, _OTHERS_COLOUR, _INK = "#0b6e69", "#b8bec5", "#24292f"


def draw(figures: Figures, path: Path) -> None:
    """Write a PNG of each tool's time and CPU as multiples of `cp`."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rounds = figures["sealing"]["rounds"]
    names = [name for name in _BARS if name in rounds]
    mpl.rcParams.update({"font.family": "DejaVu Sans", "font.size": 10, "text.color": _INK})
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    for axis, kind, title in (
        (axes[0], "wall_s", "Time, as a multiple of cp"),
        (axes[1], "cpu_s", "CPU, as a multiple of cp"),
    ):
        ratios = [_ratio(rounds, name, kind) for name in names]
        _bars(axis, names, ratios, title)
    # Once for both: they share it.
    axes[0].invert_yaxis()
    size = size_in_words(figures["sealing"]["size_mib"] * MIB)
    figure.suptitle(f"Sealing {size}, file to file", x=0.01, ha="left", fontweight="bold")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Without the version of matplotlib in it: the same figures make the same file.
    figure.savefig(path, dpi=150, facecolor="white", metadata={"Software": None})
    plt.close(figure)


def _ratio(rounds: Any, name: str, kind: str) -> float:
    return median_ratio(
        [each[kind] for each in rounds[name]], [each[kind] for each in rounds["cp"]]
    )


def _bars(axis: Any, names: list[str], ratios: list[float], title: str) -> None:
    colours = [_OURS_COLOUR if name in _OURS else _OTHERS_COLOUR for name in names]
    bars = axis.barh([_BARS[name] for name in names], ratios, color=colours, height=0.62)
    axis.bar_label(
        bars, labels=[f"{one:.1f}" if one < 10 else f"{one:.0f}" for one in ratios], padding=4
    )
    axis.set_title(title, loc="left", fontsize=10)
    axis.set_xlim(0, max(ratios) * 1.12)
    axis.set_xticks([])
    axis.tick_params(length=0, colors=_INK)
    axis.spines[:].set_visible(False)
    axis.axvline(1, color=_INK, linewidth=0.8, linestyle=(0, (2, 2)))
