"""The part of README.md that shows the figures: made from them, never typed. Pure."""

from __future__ import annotations

from benchmarks.tables import Figures, aims_table, machine_lines, sealing_table

BEGIN = "<!-- bench:begin -->"
END = "<!-- bench:end -->"
PICTURE = "docs/pictures/bench.png"
SCALE_PICTURE = "docs/pictures/bench-scale.png"


def render_section(figures: Figures) -> str:
    """What stands between the marks, the marks included."""
    return "\n".join(
        [
            BEGIN,
            "`make bench` measures it beside what you would use instead, in turns, in one run.",
            "",
            f"![Time and CPU of sealing, as multiples of cp, beside other tools]({PICTURE})",
            "",
            sealing_table(figures["sealing"]).markdown(),
            "",
            f"![Time and CPU with S3, of signed directories and of Parquet]({SCALE_PICTURE})",
            "",
            aims_table(figures).markdown(),
            "",
            machine_lines(figures),
            "",
            "d is the median fdatasync of the same directory in the same minute. "
            "An interpreter's start and imports do not count for sealing. "
            "`make bench ARGS='--gib 100'` also seals so much into a sink that keeps nothing.",
            END,
        ]
    )


def replace_section(readme: str, section: str) -> str:
    """README with another section between its marks.

    Raises:
        ValueError: It does not hold the marks exactly once.
    """
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise ValueError(f"expected {BEGIN} and {END} once each")
    before, _, rest = readme.partition(BEGIN)
    return before + section + rest.partition(END)[2]


def section_of(readme: str) -> str:
    """What stands between the marks, the marks included."""
    return BEGIN + readme.partition(BEGIN)[2].partition(END)[0] + END
