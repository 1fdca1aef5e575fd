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

ARROW_SCHEMA = b"ARROW:schema"
_PANDAS = b"pandas"
_SPARK = b"org.apache.spark.sql.parquet.row.metadata"

ArrowFields = Callable[[bytes, Collection[str]], bytes]
"""From Arrow's schema as it stands in a footer, and the names to keep, to the smaller one."""


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
    if layout.KEY_VALUES in footer:
        pairs = [
            smaller
            for pair in footer.structs(layout.KEY_VALUES)
            if (smaller := _pair(pair, keep, arrow_fields)) is not None
        ]
        made.put(layout.KEY_VALUES, LIST, Items(STRUCT, pairs))
    return made


def _name(element: Struct) -> str:
    return element.binary(layout.NAME).decode()


def _pair(pair: Struct, keep: Collection[str], arrow_fields: ArrowFields | None) -> Struct | None:
    """A text of the footer without what it says of other columns; None: leave it out."""
    key = pair.binary(1)
    if key not in (ARROW_SCHEMA, _PANDAS, _SPARK):
        return pair
    if 2 not in pair or (key == ARROW_SCHEMA and arrow_fields is None):
        return None
    if key == ARROW_SCHEMA:
        assert arrow_fields is not None
        value = arrow_fields(pair.binary(2), keep)
    else:
        prune = _pandas if key == _PANDAS else _spark
        try:
            value = json.dumps(prune(json.loads(pair.binary(2)), keep)).encode()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            # A tool's own text, which no longer says what it should: the file reads without it.
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
