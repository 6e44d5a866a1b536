"""Light curves in tables of named columns (CSV, ECSV, Parquet, VOTable, FITS), plain number tables, SNANA and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from transforms.attempt import Unusable
from transforms.readers import light_curve_columns as columns
from transforms.readers.alert_messages import FORMAT as MESSAGES
from transforms.readers.alert_packets import FORMAT as ALERTS
from transforms.readers.folded_light_curves import FORMAT as FOLDED
from transforms.readers.format import Entry, Format, Source
from transforms.readers.light_curve_parsers import Table
from transforms.readers.light_curve_record import Columns, make_light_curve
from transforms.readers.light_curve_rows import columns_of, identity_of, of_lists, of_rows
from transforms.readers.light_curve_tables import (
    groups,
    head_names,
    list_bands,
    read_table,
    table_kind,
)
from transforms.readers.snana import FORMAT as SNANA
from transforms.readers.snana_fits import FORMATS as SNANA_FITS
from transforms.readers.text_light_curves import FORMAT as TEXT
from transforms.records import Item, LightCurve

NAME = "light_curve_table"
_OF_POINTS = ("time", "value", "error", "band", "sign", "zero_point", "zero_system")
OBJECTS = 256  #: Objects of one item at most.


def _layout(source: Source, names: Sequence[str]) -> columns.Layout | None:
    return columns.declared(source.options, names, source.file.source) or columns.known(names)


def _sniff(source: Source) -> bool:
    names = head_names(source)
    if not names:
        return False
    mapping = source.options.get("light_curves") or {}
    if mapping and mapping.get("time") in names:
        return True
    if table_kind(source) == "fits":
        return True
    return columns.known(names) is not None or bool(list_bands(names))


def _items(source: Source) -> list[Item]:
    extensions = [str(i) for i in _fits_tables(source)] if table_kind(source) == "fits" else [""]
    items: list[Item] = []
    for hdu in extensions:
        table = read_table(source, hdu)
        count = table.n_row if _is_nested(table) else len(_parts(source, table))
        items += [
            Item(file=source.file, format=NAME, hdu=hdu, start=i, stop=min(i + OBJECTS, count))
            for i in range(0, count if table.n_row else 0, OBJECTS)
        ]
    if not items:
        raise Unusable(f"{source.file.source} has columns but no rows")
    return items


def _fits_tables(source: Source) -> list[int]:
    found = []
    for index, hdu in enumerate(source.hdus):
        names = list(getattr(getattr(hdu, "columns", None), "names", []) or [])
        if names and (columns.known(names) is not None or columns_declared(source, names)):
            found.append(index)
    return found


def columns_declared(source: Source, names: Sequence[str]) -> bool:
    """Whether the user's declaration fits a table.

    Parameters
    ----------
    source : Source
        The file, with its options.
    names : sequence of str
        Columns of one table of it.

    Returns
    -------
    bool
        True where the declared column of times is there.
    """
    return (source.options.get("light_curves") or {}).get("time") in names


def _parts(source: Source, table: Table) -> list[tuple[str, Any]]:
    """Identifier and rows of each object of a long table."""
    layout = _layout(source, table.names)
    return groups(table, layout.object if layout is not None else "")


def _is_nested(table: Table) -> bool:
    return any(table.is_list(name) for name in table.names)


def _entries(source: Source, item: Item) -> Iterator[Entry]:
    table = read_table(source, item.hdu)
    if _is_nested(table):
        yield from _nested_entries(source, table, item)
        return
    parts = _parts(source, table)
    for row in range(item.start, len(parts) if item.stop < 0 else item.stop):
        name, rows = parts[row]
        yield Entry(row, partial(_load_rows, source, table, item, row, rows, name), name)


def _load_rows(source: Source, table: Table, item: Item, row: int, rows: Any, name: str) -> LightCurve:
    layout = _layout(source, table.names)
    if layout is None:
        raise Unusable(f"{source.file.source}: no columns of time and brightness among {', '.join(table.names)}")
    identity = identity_of(source, table, layout, item, row, rows, name)
    return make_light_curve(columns_of(layout, of_rows(table, rows), identity))


def _nested_entries(source: Source, table: Table, item: Item) -> Iterator[Entry]:
    layout = columns.known([name for name in table.names if not table.is_list(name)] + ["mjd", "flux"])
    identity = layout.object if layout is not None else ""
    for row in range(item.start, table.n_row if item.stop < 0 else min(item.stop, table.n_row)):
        name = str(table.cell(identity, row)) if identity else f"{source.name}:{row}"
        yield Entry(row, partial(_load_nested, source, table, item, row, name), name)


def _load_nested(source: Source, table: Table, item: Item, row: int, name: str) -> LightCurve:
    lists = [n for n in table.names if table.is_list(n)]
    place = columns.known([*(n for n in table.names if not table.is_list(n)), "mjd", "flux"])
    if place is None:  # cannot be: a layout needs a time and a value, and both were added to find id and position
        raise Unusable(f"{source.file.source}: no layout")
    identity = identity_of(source, table, place, item, row, slice(row, row + 1), name)
    per_band = list_bands(lists)
    if per_band:
        return make_light_curve(_joined(table, per_band, row, identity))
    found = _layout(source, lists)
    if found is None:
        raise Unusable(f"{source.file.source}: no list columns of time and brightness among {', '.join(table.names)}")
    used = {role: column for role in _OF_POINTS if (column := getattr(found, role))}
    used |= dict(zip(found.quality, found.quality, strict=True))
    sizes = {role: len(table.cell(column, row)) for role, column in used.items()}
    if len(set(sizes.values())) > 1:
        text = ", ".join(f"{role} {size}" for role, size in sizes.items())
        raise Unusable(f"list columns of object {name!r} differ in length: {text}")
    return make_light_curve(columns_of(found, of_lists(table, row), identity))


def _joined(table: Table, per_band: dict[str, tuple[str, str, str]], row: int, identity: dict[str, Any]) -> Columns:
    """Bands that a table keeps in columns of their own, one after another."""
    parts: list[list[np.ndarray]] = [[], [], []]
    band: list[str] = []
    for name, names in per_band.items():
        cells = [np.asarray(table.cell(column, row), np.float64) for column in names]
        if len({cell.size for cell in cells}) > 1:
            raise Unusable(f"columns {', '.join(names)} of row {row} differ in length: {[cell.size for cell in cells]}")
        for part, cell in zip(parts, cells, strict=True):
            part.append(cell)
        band += [name] * cells[0].size
    time, value, error = (np.concatenate(part) for part in parts)
    magnitudes = not next(iter(per_band.values()))[1].lower().startswith("flux")
    unit = "relative" if magnitudes else ""  # filters of such tables are the camera's own
    return Columns(
        time=time, value=value, error=error, band=np.array(band, str), magnitudes=magnitudes, unit=unit,
        identity=identity,
    )  # fmt: skip


FORMATS: tuple[Format, ...] = (
    SNANA,
    *SNANA_FITS,
    MESSAGES,
    ALERTS,
    TEXT,
    Format(
        name=NAME,
        record=LightCurve,
        description="Light curves in CSV, ECSV, Parquet (long or list columns), VOTable or a FITS table; columns by "
        "known names or as declared",
        sniff=_sniff,
        items=_items,
        entries=_entries,
    ),
    FOLDED,
)
