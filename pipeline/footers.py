"""Units, UCDs and descriptions in the Parquet footer, in the forms that astropy and TOPCAT read.

Three kinds of key stand in every file: a data-less VOTable (IVOA Note "VOParquet" 1.0), an ECSV-style header
(``astropy.table``) and the width of each string column (without which astropy fails on a null string).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from xml.sax.saxutils import quoteattr

import pyarrow as pa

from transforms.columns import BOOL, FLOAT32, FLOAT32_LIST, FLOAT64, INT32, INT64, STRING, Column

STRING_WIDTH = 64  #: Bytes of a string column for readers of fixed width; longer strings widen it.
_ARROW = {
    FLOAT32: pa.float32(), FLOAT64: pa.float64(), INT32: pa.int32(), INT64: pa.int64(),
    BOOL: pa.bool_(), STRING: pa.string(), FLOAT32_LIST: pa.list_(pa.field("element", pa.float32())),
}  # fmt: skip
_VOTABLE = {
    FLOAT32: "float", FLOAT64: "double", INT32: "int", INT64: "long", BOOL: "boolean", STRING: "char",
    FLOAT32_LIST: "float",
}  # fmt: skip


@lru_cache(maxsize=256)
def arrow_schema(name: str, columns: tuple[Column, ...], widths: tuple[int, ...] = ()) -> pa.Schema:
    """Arrow schema of a table, with field metadata and what astropy's plain reader needs; built once for a table.

    Parameters
    ----------
    name : str
        Name of the table.
    columns : tuple of Column
        In order.
    widths : tuple of int
        Bytes of each string column, in order; ``STRING_WIDTH`` where empty.

    Returns
    -------
    pyarrow.Schema
        What the files of the table are written with.
    """
    strings = [column.name for column in columns if column.type == STRING]
    width = dict(zip(strings, widths or (STRING_WIDTH,) * len(strings), strict=True))
    fields = [
        pa.field(
            column.name,
            _ARROW[column.type],
            nullable=column.nullable,
            metadata={"unit": column.unit, "ucd": column.ucd, "description": column.description},
        )
        for column in columns
    ]
    lengths = {f"table::len::{column}": str(size) for column, size in width.items()}
    return pa.schema(fields, metadata={"table_meta_yaml": ecsv_header(columns), **lengths})


@lru_cache(maxsize=256)
def votable_keys(name: str, columns: tuple[Column, ...], widths: tuple[int, ...] = ()) -> dict[str, str]:
    """Footer keys of the VOTable document, which stand beside the schema: Arrow would write them twice.

    Parameters
    ----------
    name : str
        Name of the table.
    columns : tuple of Column
        In order.
    widths : tuple of int
        As in ``arrow_schema``.

    Returns
    -------
    dict of str to str
        Key-value metadata of the Parquet file.
    """
    strings = [column.name for column in columns if column.type == STRING]
    width = dict(zip(strings, widths or (STRING_WIDTH,) * len(strings), strict=True))
    return {"IVOA.VOTable-Parquet.version": "1.0", "IVOA.VOTable-Parquet.content": votable(name, columns, width)}


def votable(name: str, columns: Iterable[Column], width: Mapping[str, int]) -> str:
    """A VOTable 1.4 document of one table without data.

    Parameters
    ----------
    name : str
        Name of the table.
    columns : iterable of Column
        In order.
    width : mapping of str to int
        Bytes of each string column: astropy cannot join a ``*`` with a Parquet column.

    Returns
    -------
    str
        XML.
    """
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">',
        '<RESOURCE type="results">',
        f"<TABLE name={quoteattr(name)}>",
    ]
    for column in columns:
        parts = [f"name={quoteattr(column.name)}", f'datatype="{_VOTABLE[column.type]}"']
        if column.type == STRING:
            parts.append(f'arraysize="{width[column.name]}"')
        if column.type == FLOAT32_LIST:
            parts.append('arraysize="*"')
        if column.unit:
            parts.append(f"unit={quoteattr(column.unit)}")
        if column.ucd:
            parts.append(f"ucd={quoteattr(column.ucd)}")
        text = column.description.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        lines.append(f"<FIELD {' '.join(parts)}><DESCRIPTION>{text}</DESCRIPTION></FIELD>")
    return "\n".join([*lines, "</TABLE>", "</RESOURCE>", "</VOTABLE>", ""])


def ecsv_header(columns: Iterable[Column]) -> str:
    """The YAML that ``astropy.table.Table.read`` takes units and descriptions from.

    Parameters
    ----------
    columns : iterable of Column
        In order.

    Returns
    -------
    str
        One line a column; JSON mappings are YAML.
    """
    lines = ["datatype:"]
    for column in columns:
        entry: dict[str, object] = {"name": column.name, "datatype": column.type}
        if column.unit:
            entry["unit"] = column.unit
        entry["description"] = column.description
        if column.ucd:
            entry["meta"] = {"ucd": column.ucd}
        lines.append(f"- {json.dumps(entry, ensure_ascii=False)}")
    return "\n".join(lines)


def columns_of(schema: pa.Schema) -> tuple[Column, ...]:
    """Read the columns back from a file's schema.

    Parameters
    ----------
    schema : pyarrow.Schema
        Written by ``arrow_schema``.

    Returns
    -------
    tuple of Column
        In order.

    Raises
    ------
    ValueError
        For a type or metadata that this package does not write.
    """
    types = {arrow: name for name, arrow in _ARROW.items()}
    found = []
    for field in schema:
        if field.type not in types:
            raise ValueError(f"column {field.name!r} has type {field.type}, which no table of ours has")
        meta = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        found.append(
            Column(
                field.name,
                types[field.type],
                meta.get("unit", ""),
                meta.get("ucd", ""),
                meta.get("description", ""),
                field.nullable,
            )
        )
    return tuple(found)
