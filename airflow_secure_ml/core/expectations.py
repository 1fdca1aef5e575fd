"""The expectations that may be run, and what each needs in order to be able to fail.

Left out on purpose: those that run SQL or read another table, JSON schemas (a `$ref` is fetched
from the network), LIKE patterns (there is no database), and every class from elsewhere.

Source: Great Expectations 1.24, `expectations/core`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Infinite = Literal["bounded", "refused", "harmless"]

_TYPE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_\[\]]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What is known of a type of expectation.

    Attributes:
        columns: Its arguments that name columns.
        absent: Whether these columns need not be there.
        needs: Arguments without which, or empty, it passes on any data.
        range: Whether it needs `min_value` or `max_value` for the same reason.
        nulls: Whether it says something about a column without any value.
        infinite: What an infinity in its column means: `bounded`: it fails an open range;
            `refused`: nothing can be said; `harmless`: sizes don't matter.
    """

    columns: tuple[str, ...] = ()
    absent: bool = False
    needs: tuple[str, ...] = ()
    range: bool = False
    nulls: bool = False
    infinite: Infinite = "harmless"

    def problem(self, arguments: Mapping[str, object]) -> str | None:
        """Why these arguments are refused; None if they may be run."""
        for key in self.needs:
            if arguments.get(key) is None or arguments[key] in ([], {}, ""):
                return f"{key}: expected a value; without one it passes on any data"
        if self.range and arguments.get("min_value") is None and arguments.get("max_value") is None:
            return "expected min_value or max_value; without them it passes on any data"
        mostly = arguments.get("mostly", 1)
        if isinstance(mostly, bool) or not isinstance(mostly, (int, float)) or not 0 < mostly <= 1:
            return "mostly: expected a number above 0 and at most 1"
        return _unbounded_quantile(arguments) or _odd_type_name(arguments)


def _unbounded_quantile(arguments: Mapping[str, object]) -> str | None:
    ranges = arguments.get("quantile_ranges")
    pairs = ranges.get("value_ranges") if isinstance(ranges, dict) else None
    if ranges is not None and (
        not isinstance(pairs, list)
        or not pairs
        or any(not isinstance(p, list) or len(p) != 2 or p == [None, None] for p in pairs)
    ):
        return "quantile_ranges: expected value_ranges, each with at least one end"
    return None


def _odd_type_name(arguments: Mapping[str, object]) -> str | None:
    listed = arguments.get("type_list")
    names = listed if isinstance(listed, list) else []
    for name in [*names, arguments.get("type_", "int")]:
        if not isinstance(name, str) or not _TYPE_NAME.fullmatch(name):
            return "expected a type's name, such as int64"
    return None


_COLUMN, _PAIR, _LIST = ("column",), ("column_A", "column_B"), ("column_list",)


def _range(infinite: Infinite = "harmless", *, nulls: bool = False) -> Shape:
    return Shape(columns=_COLUMN, range=True, infinite=infinite, nulls=nulls)


def _column(*needs: str, nulls: bool = False, infinite: Infinite = "harmless") -> Shape:
    return Shape(columns=_COLUMN, needs=needs, nulls=nulls, infinite=infinite)


CATALOGUE: Mapping[str, Shape] = {
    # One column, row by row.
    "expect_column_values_to_not_be_null": _column(nulls=True),
    "expect_column_values_to_be_null": _column(nulls=True),
    "expect_column_values_to_be_unique": _column(),
    "expect_column_values_to_be_between": _range("bounded"),
    "expect_column_values_to_be_in_set": _column("value_set"),
    "expect_column_values_to_not_be_in_set": _column("value_set"),
    "expect_column_values_to_be_increasing": _column(infinite="refused"),
    "expect_column_values_to_be_decreasing": _column(infinite="refused"),
    "expect_column_values_to_be_of_type": _column("type_"),
    "expect_column_values_to_be_in_type_list": _column("type_list"),
    "expect_column_values_to_be_dateutil_parseable": _column(),
    "expect_column_values_to_be_json_parseable": _column(),
    "expect_column_values_to_match_strftime_format": _column("strftime_format"),
    "expect_column_values_to_match_regex": _column("regex"),
    "expect_column_values_to_not_match_regex": _column("regex"),
    "expect_column_values_to_match_regex_list": _column("regex_list"),
    "expect_column_values_to_not_match_regex_list": _column("regex_list"),
    "expect_column_values_to_not_be_outliers": _column(infinite="refused"),
    "expect_column_value_lengths_to_be_between": _range(),
    "expect_column_value_lengths_to_equal": _column("value"),
    "expect_column_value_z_scores_to_be_less_than": _column("threshold", infinite="refused"),
    # Several columns, row by row.
    "expect_column_pair_values_a_to_be_greater_than_b": Shape(columns=_PAIR, infinite="refused"),
    "expect_column_pair_values_to_be_equal": Shape(columns=_PAIR),
    "expect_column_pair_values_to_be_in_set": Shape(columns=_PAIR, needs=("value_pairs_set",)),
    "expect_compound_columns_to_be_unique": Shape(columns=_LIST),
    "expect_select_column_values_to_be_unique_within_record": Shape(columns=_LIST),
    "expect_multicolumn_values_to_be_equal": Shape(columns=_LIST),
    "expect_multicolumn_sum_to_equal": Shape(
        columns=_LIST, needs=("sum_total",), infinite="refused"
    ),
    # One column as a whole.
    "expect_column_max_to_be_between": _range("bounded"),
    "expect_column_min_to_be_between": _range("bounded"),
    "expect_column_mean_to_be_between": _range("bounded"),
    "expect_column_median_to_be_between": _range("bounded"),
    "expect_column_sum_to_be_between": _range("bounded"),
    "expect_column_stdev_to_be_between": _range("refused"),
    "expect_column_quantile_values_to_be_between": _column("quantile_ranges", infinite="refused"),
    "expect_column_kl_divergence_to_be_less_than": _column(
        "partition_object", "threshold", infinite="refused"
    ),
    "expect_column_unique_value_count_to_be_between": _range(),
    "expect_column_proportion_of_unique_values_to_be_between": _range(),
    "expect_column_proportion_of_non_null_values_to_be_between": _range(nulls=True),
    "expect_column_distinct_values_to_be_in_set": _column("value_set"),
    "expect_column_distinct_values_to_contain_set": _column("value_set"),
    "expect_column_distinct_values_to_equal_set": _column("value_set"),
    "expect_column_most_common_value_to_be_in_set": _column("value_set"),
    "expect_column_type_to_be": _column("type_", nulls=True),
    # The table.
    "expect_column_to_exist": Shape(columns=_COLUMN, absent=True, nulls=True),
    "expect_table_columns_to_match_ordered_list": Shape(needs=_LIST),
    "expect_table_columns_to_match_set": Shape(needs=("column_set",)),
    "expect_table_column_count_to_equal": Shape(needs=("value",)),
    "expect_table_column_count_to_be_between": Shape(range=True),
    "expect_table_row_count_to_equal": Shape(needs=("value",)),
    "expect_table_row_count_to_be_between": Shape(range=True),
}
