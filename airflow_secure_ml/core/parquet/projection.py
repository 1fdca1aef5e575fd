"""Leave columns out of a Parquet footer, as if they had never been written.

What other tools keep in the footer's texts (pandas, Spark, Arrow) names columns too, and would have
them look for what is not there.

Source: parquet-format, parquet.thrift; pandas, Developer, Storing pandas DataFrame objects in
Apache Parquet format.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any

from airflow_secure_ml.core.parquet import layout
from airflow_secure_ml.core.parquet.thrift import BINARY, LIST, STRUCT, Items, Struct
from airflow_secure_ml.errors import FormatError

ARROW_SCHEMA = b"ARROW:schema"
_PANDAS = b"pandas"
_SPARK = b"org.apache.spark.sql.parquet.row.metadata"
_GEO = b"geo"

ArrowFields = Callable[[bytes, Collection[str]], bytes | None]
"""From Arrow's schema as it stands in a footer, and the names to keep, to the smaller one.

None: it cannot be read.
"""


def project(
    footer: Struct, keep: Collection[str], arrow_fields: ArrowFields | None = None
) -> Struct:
    """A footer's schema and texts with these top-level columns only; its row groups as they are.

    Args:
        footer: FileMetaData whose schema `leaf_paths` has read.
        keep: Top-level names.
        arrow_fields: Prunes Arrow's schema; None: it is left out, and with it what only Arrow
            knows of its types.
    """
    paths = layout.leaf_paths(footer)
    made = footer.copy()
    if all(path[0] in keep for path in paths):
        return made
    elements = footer.structs(layout.SCHEMA)
    spans = [span for span in layout.root_spans(elements) if _name(elements[span[0]]) in keep]
    root = elements[0].copy()
    root.put(layout.CHILDREN, root.fields[layout.CHILDREN][0], len(spans))
    kept = [root, *(element for begin, end in spans for element in elements[begin:end])]
    made.put(layout.SCHEMA, LIST, Items(STRUCT, kept))
    if layout.COLUMN_ORDERS in footer:
        orders = footer.structs(layout.COLUMN_ORDERS)
        left = [order for order, path in zip(orders, paths, strict=False) if path[0] in keep]
        made.put(layout.COLUMN_ORDERS, LIST, Items(STRUCT, left))
    hidden = {path[0] for path in paths} - set(keep)
    if layout.KEY_VALUES in footer:
        pairs = [
            smaller
            for pair in footer.structs(layout.KEY_VALUES)
            if (smaller := _pair(pair, keep, hidden, arrow_fields)) is not None
        ]
        made.put(layout.KEY_VALUES, LIST, Items(STRUCT, pairs))
    return made


def _name(element: Struct) -> str:
    return element.binary(layout.NAME).decode()


def without_extents(footer: Struct, columns: Collection[str]) -> Struct:
    """A footer whose GeoParquet text no longer says where the values of these columns lie.

    The text is under the footer's key, and an extent tells of values; readers do without.

    Args:
        footer: FileMetaData.
        columns: Top-level names.
    """
    if layout.KEY_VALUES not in footer or not columns:
        return footer
    pairs = [
        _changed(pair, lambda said: _geo_without_extents(said, columns))
        if pair.binary(1) == _GEO
        else pair
        for pair in footer.structs(layout.KEY_VALUES)
    ]
    made = footer.copy()
    left = [pair for pair in pairs if pair is not None]
    made.put(layout.KEY_VALUES, LIST, Items(STRUCT, left))
    return made


def _pair(
    pair: Struct,
    keep: Collection[str],
    hidden: Collection[str],
    arrow_fields: ArrowFields | None,
) -> Struct | None:
    """A text of the footer without what it says of other columns; None: leave it out."""
    key = pair.binary(1)
    if key == ARROW_SCHEMA:
        return _arrow(pair, keep, arrow_fields)
    prune = {_PANDAS: _pandas, _SPARK: _spark, _GEO: _geo}.get(key)
    if prune is not None:
        return _changed(pair, lambda said: prune(said, keep))
    # Avro, Iceberg and others: a schema that names what is not there.
    value = pair.binary(2) if 2 in pair else b""
    return None if any(json.dumps(name).encode() in value for name in hidden) else pair


def _arrow(pair: Struct, keep: Collection[str], arrow_fields: ArrowFields | None) -> Struct | None:
    value = arrow_fields(pair.binary(2), keep) if arrow_fields and 2 in pair else None
    if value is None:
        return None
    made = pair.copy()
    made.put(2, BINARY, value)
    return made


def _changed(pair: Struct, change: Callable[[Any], Any]) -> Struct | None:
    """A pair whose JSON is another; None: it says not what it should, and is left out."""
    try:
        value = json.dumps(change(json.loads(pair.binary(2)))).encode()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, FormatError):
        # A tool's own text: the file reads without it.
        return None
    made = pair.copy()
    made.put(2, BINARY, value)
    return made


def _pandas(said: Any, keep: Collection[str]) -> Any:
    columns = [each for each in said["columns"] if each["field_name"] in keep]
    index = [
        each for each in said.get("index_columns", []) if not isinstance(each, str) or each in keep
    ]
    return {**said, "columns": columns, "index_columns": index}


def _spark(said: Any, keep: Collection[str]) -> Any:
    return {**said, "fields": [each for each in said["fields"] if each["name"] in keep]}


def _geo(said: Any, keep: Collection[str]) -> Any:
    if said["primary_column"] not in keep:
        raise ValueError("no text without its primary column")
    return {**said, "columns": {n: one for n, one in said["columns"].items() if n in keep}}


def _geo_without_extents(said: Any, columns: Collection[str]) -> Any:
    kept = {
        name: {
            field: value for field, value in one.items() if name not in columns or field != "bbox"
        }
        for name, one in said["columns"].items()
    }
    return {**said, "columns": kept}
