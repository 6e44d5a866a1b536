"""Light curves in tables of named columns (CSV, ECSV, Parquet, VOTable, FITS), plain number tables, SNANA and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from transforms.attempt import Unusable
from transforms.readers import light_curve_columns as columns
from transforms.readers.folded_light_curves import FORMAT as FOLDED
from transforms.readers.format import Entry, Format, Source
from transforms.readers.light_curve_parsers import Table
from transforms.readers.light_curve_record import Columns, make_light_curve
from transforms.readers.light_curve_tables import (
    groups,
    head_names,
    list_bands,
    read_table,
    table_kind,
)
from transforms.readers.snana import FORMAT as SNANA
from transforms.readers.text_light_curves import FORMAT as TEXT
from transforms.records import Item, LightCurve

_ROLES = ("time", "value", "error", "band")
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
    kind = table_kind(source)
    if kind == "fits":
        return [Item(file=source.file, format="light_curve_table", hdu=str(i)) for i in _fits_tables(source)]
    table = read_table(source)
    if table.n_row == 0:
        raise Unusable(f"{source.file.source} has columns but no rows")
    count = len(groups(table, _object_column(source, table))) if not _is_nested(table) else table.n_row
    return [
        Item(file=source.file, format="light_curve_table", start=i, stop=min(i + OBJECTS, count))
        for i in range(0, count, OBJECTS)
    ]


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


def _object_column(source: Source, table: Table) -> str:
    found = _layout(source, table.names)
    return found.object if found is not None else ""


def _is_nested(table: Table) -> bool:
    return any(table.is_list(name) for name in table.names)


def _entries(source: Source, item: Item) -> Iterator[Entry]:
    if item.hdu:
        table = read_table(source, item.hdu)
        yield Entry(0, partial(_load_rows, source, table, item, 0, slice(None), ""))
        return
    table = read_table(source)
    if _is_nested(table):
        yield from _nested_entries(source, table, item)
        return
    parts = groups(table, _object_column(source, table))
    for row in range(item.start, len(parts) if item.stop < 0 else item.stop):
        name, rows = parts[row]
        yield Entry(row, partial(_load_rows, source, table, item, row, rows, name), name)


def _load_rows(source: Source, table: Table, item: Item, row: int, rows: Any, name: str) -> LightCurve:
    layout = _layout(source, table.names)
    if layout is None:
        raise Unusable(f"{source.file.source}: no columns of time and brightness among {', '.join(table.names)}")
    band = table.strings(layout.band, rows) if layout.band else None
    time = table.numbers(layout.time, rows)
    unit, factor = columns.flux_unit(layout.value, table.units.get(layout.value, ""))
    factor = 1.0 if layout.magnitudes else factor
    return make_light_curve(
        Columns(
            time=time,
            value=table.numbers(layout.value, rows) * factor,
            error=table.numbers(layout.error, rows) * factor if layout.error else None,
            band=band if band is not None else np.full(time.size, str(table.meta.get("band", ""))),
            bad=table.numbers(layout.quality, rows) != 0 if layout.quality else None,
            magnitudes=layout.magnitudes,
            unit="" if layout.magnitudes else unit,
            system=layout.system or columns.system_of(layout.time, table.units.get(layout.time, "")),
            coarse=table.single_precision(layout.time),
            identity=_identity(source, table, layout, item, row, rows, name),
        )
    )


def _identity(
    source: Source, table: Table, layout: columns.Layout, item: Item, row: int, rows: Any, name: str
) -> dict[str, Any]:
    place: dict[str, float | None] = {}
    for axis, column in (("ra", layout.ra), ("dec", layout.dec)):
        values = table.numbers(column, rows) if column else np.array([table.meta.get(axis, np.nan)], np.float64)
        values = values[np.isfinite(values)]
        place[axis] = float(np.median(values)) if values.size else None
    stem = source.name.split(".", 1)[0] if source.name[0].isdigit() else source.name.rsplit(".", 1)[0]
    return {
        "source": source.file.source,
        "hdu": item.hdu,
        "row": row,
        "object_id": name or str(table.meta.get("object", "")) or stem + (f"#{item.hdu}" if item.hdu else ""),
        **_checked(place),
    }


def _checked(place: dict[str, float | None]) -> dict[str, float | None]:
    ra, dec = place["ra"], place["dec"]
    good = ra is not None and dec is not None and 0 <= ra <= 360 and -90 <= dec <= 90
    return {"ra": ra % 360 if good and ra is not None else None, "dec": dec if good else None}


def _nested_entries(source: Source, table: Table, item: Item) -> Iterator[Entry]:
    layout = columns.known([name for name in table.names if not table.is_list(name)] + ["mjd", "flux"])
    identity = layout.object if layout is not None else ""
    for row in range(item.start, table.n_row if item.stop < 0 else min(item.stop, table.n_row)):
        name = str(table.cell(identity, row)) if identity else f"{source.name}:{row}"
        yield Entry(row, partial(_load_nested, source, table, item, row, name), name)


def _load_nested(source: Source, table: Table, item: Item, row: int, name: str) -> LightCurve:
    plain = [n for n in table.names if not table.is_list(n)]
    lists = [n for n in table.names if table.is_list(n)]
    place = columns.known([*plain, "mjd", "flux"])  # a layout needs a time and a value: only id and position are used
    identity = _identity(source, table, place, item, row, slice(row, row + 1), name) if place is not None else {}
    per_band = list_bands(lists)
    if per_band:
        return make_light_curve(_joined(table, per_band, row, identity))
    found = _layout(source, lists)
    if found is None:
        raise Unusable(f"{source.file.source}: no list columns of time and brightness among {', '.join(table.names)}")
    cells = {role: table.cell(column, row) for role in _ROLES if (column := getattr(found, role))}
    if len({len(cell) for cell in cells.values()}) > 1:
        sizes = ", ".join(f"{role} {len(cell)}" for role, cell in cells.items())
        raise Unusable(f"list columns of object {name!r} differ in length: {sizes}")
    count = len(cells["time"])
    unit, factor = columns.flux_unit(found.value, table.units.get(found.value, ""))
    factor = 1.0 if found.magnitudes else factor
    return make_light_curve(
        Columns(
            time=np.asarray(cells["time"], np.float64),
            value=np.asarray(cells["value"], np.float64) * factor,
            error=np.asarray(cells["error"], np.float64) * factor if "error" in cells else None,
            band=np.asarray(cells["band"]).astype(str) if "band" in cells else np.full(count, ""),
            magnitudes=found.magnitudes,
            unit="" if found.magnitudes else unit,
            system=found.system,
            identity=identity,
        )
    )


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
    TEXT,
    Format(
        name="light_curve_table",
        record=LightCurve,
        description="Light curves in CSV, ECSV, Parquet (long or list columns), VOTable or a FITS table; columns by "
        "known names or as declared",
        sniff=_sniff,
        items=_items,
        entries=_entries,
    ),
    FOLDED,
)
